"""What `loops.record` is given, in runs: logs, history, callbacks, TensorBoard, and runs that resume."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gradloop import loops
from tests.loops.training.resumed_runs import Cut

X = np.arange(11, dtype="float32")[:, None]
# Of batches of 2, the last one short.
MEANS = np.array([0.5, 2.5, 4.5, 6.5, 8.5, 10.0])
LARGEST = np.array([1.0, 3, 5, 7, 9, 10])


def loss(model, batch, training=True):
    """Records of the batch; one with 4 in it is to be skipped."""
    loops.record("mean", tf.reduce_mean(batch[0]))
    loops.record("largest", tf.reduce_max(batch[0]), "max")
    outputs = model(batch[0], training=training)
    return loops.mean_loss(tf.where(training and batch[0] == 4.0, np.nan, outputs))


def step(on_nonfinite="skip"):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    return loops.TrainStep(model, loss, keras.optimizers.SGD(0.01), on_nonfinite=on_nonfinite)


def data():
    return loops.Batches(X, None, 2, shuffle=False)


class Seen(loops.StepsCallback):
    """Each step's values by its number."""

    def __init__(self):
        super().__init__()
        self.steps = {}

    def on_train_steps_end(self, first, values):
        for offset, row in enumerate(zip(values["mean"], values["largest"])):
            self.steps[first + offset] = row


def expected(epochs):
    taken = np.arange(6) != 2  # 4 is in the third batch
    return {
        "mean": [MEANS[taken].mean()] * epochs,
        "largest": [10.0] * epochs,
        "val_mean": [MEANS.mean()] * epochs,
        "val_largest": [10.0] * epochs,
    }


def assert_right(history, epochs):
    for name, values in expected(epochs).items():
        np.testing.assert_allclose(history[name], values, rtol=1e-6, err_msg=name)


def test_logs_callbacks_and_tensorboard(tmp_path):
    seen, logged, shown = Seen(), [], []
    each = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logged.append(dict(logs)))
    board = loops.TensorBoard(tmp_path)
    history = loops.train(step(), data(), epochs=2, validation=data(), callbacks=[seen, each, board]).history
    assert_right(history, 2)
    assert_right({name: [logs[name] for logs in logged] for name in logged[0]}, 2)
    rows = [*zip(MEANS, LARGEST)]
    assert [*seen.steps] == [*range(1, 13)] and [*seen.steps.values()] == [*rows, *rows]
    for run, tag, right in (
        ("steps", "step/mean", [*enumerate([*MEANS, *MEANS], 1)]),
        ("validation", "epoch/largest", [(1, 10.0), (2, 10.0)]),
    ):
        events = EventAccumulator(str(tmp_path / run), size_guidance={"tensors": 0}).Reload().Tensors(tag)
        shown = [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events]
        assert shown == right


def test_batch_hooks_have_the_means_so_far():
    found = []
    hook = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: found.append(dict(logs)))
    loops.train(step(), data(), epochs=1, callbacks=[hook])
    so_far = [0.5, 1.5, 1.5, np.mean([0.5, 2.5, 6.5]), np.mean([0.5, 2.5, 6.5, 8.5])]
    np.testing.assert_allclose([logs["mean"] for logs in found][:5], so_far, rtol=1e-6)
    assert [logs["largest"] for logs in found] == [1, 3, 3, 7, 9, 10]


def test_a_run_that_resumes_in_the_middle_of_an_epoch(tmp_path):
    cut, seen = Cut(5, 10), Seen()
    while True:
        checkpoint = loops.Checkpoint(tmp_path, every_steps=4, verbose=0)
        try:
            run = loops.train(
                step(), data(), epochs=2, validation=data(), callbacks=[cut, seen], checkpoint=checkpoint
            )
            break
        except OSError:
            continue
    assert_right(run.history, 2)
    assert seen.steps[10] == (6.5, 7.0) and len(seen.steps) == 12


def test_the_steps_before_one_that_raises_are_told():
    with pytest.raises(loops.NonFiniteError) as error:
        step("raise").run(iter(data()), 6)
    assert error.value.records.values()["mean"].tolist() == [0.5, 2.5]
