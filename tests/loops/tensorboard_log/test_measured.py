"""Numbers and histograms of watched steps, read back by TensorBoard's own reader."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.histogram.summary_v2 import histogram_pb

from gradloop import loops, optim
from gradloop.loops.step.watch import Histogram, Measured
from gradloop.loops.tensorboard_log.measured import MeasuredValues
from tests.loops.step import watched
from tests.loops.tensorboard_log.loaders import LOADERS
from tests.tolerance import rounding


def _written(folder, *measured):
    """What the run `steps` holds after the values of steps 10, 20, ..., by tag and step."""
    board = loops.TensorBoard(folder)
    board.set_model(keras.Sequential([keras.Input((20,)), keras.layers.Dense(25, name="dense")]))
    board.on_train_begin()
    for number, one in enumerate(measured, 1):
        board.on_measured(10 * number, one)
    board.on_train_end()
    reader = EventAccumulator(str(folder / "steps"), tensor_size_guidance={"histograms": 0}).Reload()
    tags = {
        tag: {event.step: tf.make_ndarray(event.tensor_proto) for event in reader.Tensors(tag)}
        for tag in reader.Tags()["tensors"]
    }
    return reader, tags


def test_what_was_measured(tmp_path):
    data = np.random.default_rng(0).normal(size=500)
    counts, edges = np.histogram(data, 30)
    histogram = Histogram(counts.astype(float), edges)
    reader, tags = _written(
        tmp_path,
        Measured({"rate/body": 0.1, "grad_norm/all": 2.0}, {"weights/dense/kernel": histogram}),
        Measured({"rate/body": 0.01}, {}),
    )
    assert tags["rate/body"] == {10: np.float32(0.1), 20: np.float32(0.01)}
    assert tags["grad_norm/all"] == {10: 2.0}
    theirs = histogram_pb("weights/dense/kernel", data).value[0]
    np.testing.assert_allclose(
        tags["weights/dense/kernel"][10], tf.make_ndarray(theirs.tensor), rtol=1e-12, atol=1e-15
    )
    ours = reader.SummaryMetadata("weights/dense/kernel").plugin_data
    assert (ours.plugin_name, ours.content) == ("histograms", theirs.metadata.plugin_data.content)


def test_what_is_no_number_is_left_out_and_said_once(tmp_path):
    counts = np.full(10, 50.0)
    counts[3] -= 2
    whole, part = (Histogram(each, np.arange(11.0)) for each in (np.full(10, 50.0), counts))
    steps = Measured({}, {"weights/dense/kernel": whole, "gradients/dense/kernel": part})
    match = "'gradients/dense/kernel' of step 10 is drawn without 2 of 500 values, which are NaN or inf"
    with pytest.warns(UserWarning, match=match) as told:
        _, tags = _written(tmp_path, steps, steps)
    assert len(told) == 1
    expected = np.stack([np.arange(10.0), np.arange(1, 11.0), counts], axis=1)
    for step in (10, 20):
        np.testing.assert_array_equal(tags["gradients/dense/kernel"][step], expected)


def test_a_group_with_the_name_of_all_groups_is_told(tmp_path):
    network = watched.model()
    optimizer = optim.GroupedOptimizer(
        keras.optimizers.SGD(), optim.partition(network, {"all": "body", "head": "head"})
    )
    board, step = loops.TensorBoard(tmp_path), loops.TrainStep(network, watched.LOSS, optimizer)
    board.set_train_step(step)
    with pytest.warns(UserWarning, match="group 'all': `grad_norm/all` is the norm .*another name"):
        MeasuredValues().on_train_begin(board)


def test_many_tags_are_warned_of_once(tmp_path):
    few = {f"grad_norm/{number}": 1.0 for number in range(200)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _written(tmp_path / "few", Measured(few, {}), Measured(few, {}))
    more = Measured({**few, "rate/all": 0.1}, {})
    with pytest.warns(
        UserWarning, match='have 201 tags or more, .* write fewer, as `watch="groups"` does'
    ) as told:
        _written(tmp_path / "many", more, more)
    assert len(told) == 1


@pytest.mark.numbers
@pytest.mark.parametrize("load", LOADERS)
def test_a_plan_that_unfreezes_read_back_equals_a_loop_by_hand(tmp_path, load):
    """A group has points from the step on in which it trains."""
    network = watched.model()
    step = loops.TrainStep(network, watched.LOSS, watched.grouped(network))
    board = loops.TensorBoard(tmp_path, watch_every=2)
    loops.train(step, watched.data(), epochs=2, callbacks=[board, watched.Unfreeze()])
    by_hand = watched.by_hand(6, unfreezes=True)
    expected = {}
    for number in (2, 4, 6):
        for tag, value in by_hand[number].items():
            expected.setdefault(tag, []).append((number, value))
    tags = load(tmp_path)["steps"]
    assert {tag for tag in tags if not tag.startswith(("step/", "speed/", "memory/"))} == set(expected)
    for tag, points in expected.items():
        np.testing.assert_allclose(tags[tag], points, rtol=rounding(), err_msg=tag)
    assert [number for number, _ in tags["rate/body"]] == [4, 6]


@pytest.mark.numbers
def test_histograms_of_a_run_equal_numpy(tmp_path):
    network = watched.model()
    step = loops.TrainStep(network, watched.LOSS, watched.plain(network))
    before = network.get_layer("head").kernel.numpy()
    board = loops.TensorBoard(tmp_path, watch=None, histograms="head/kernel", histograms_every=1)
    loops.train(step, watched.data(), epochs=1, steps_per_epoch=1, callbacks=[board])
    reader = EventAccumulator(str(tmp_path / "steps"), tensor_size_guidance={"histograms": 0}).Reload()
    (weights,) = reader.Tensors("weights/head/kernel")
    (gradients,) = reader.Tensors("gradients/head/kernel")
    counts, edges = np.histogram(before, 30)
    rows = tf.make_ndarray(weights.tensor_proto)
    np.testing.assert_array_equal(rows[:, 2], counts)
    np.testing.assert_allclose(rows[:, :2], np.stack([edges[:-1], edges[1:]], 1), rtol=rounding(), atol=1e-9)
    assert (weights.step, gradients.step) == (1, 1)
    assert tf.make_ndarray(gradients.tensor_proto)[:, 2].sum() == before.size
