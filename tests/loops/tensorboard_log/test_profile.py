"""A profile of exactly these steps."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

MISSING = "ignore:`profile` .* lacks the plugin:UserWarning"
pytestmark = pytest.mark.filterwarnings(MISSING)


class Calls(loops.StepsCallback):
    """How many steps each call ran."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_steps_end(self, first, values):
        self.steps.append(len(values["loss"]))


def _profiles(folder):
    return sorted((folder / "train").glob("plugins/profile/*/*.xplane.pb"))


def _marked(folder):
    """The numbers of the steps that are marked in the only profile, in TensorFlow's own form of it."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    [file] = _profiles(folder)
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    found = set()
    for plane in space.planes:
        names = {number: one.name for number, one in plane.stat_metadata.items()}
        for event in (event for line in plane.lines for event in line.events):
            stats = {names[stat.metadata_id]: stat.int64_value or stat.uint64_value for stat in event.stats}
            if plane.event_metadata[event.metadata_id].name == "train" and "step_num" in stats:
                found.add(stats["step_num"])
    return sorted(found)


def test_exactly_these_steps(tmp_path, tiny):
    calls, board = Calls(), loops.TensorBoard(tmp_path, profile=(3, 5))
    loops.train(tiny.step(), tiny.data(2), epochs=2, callbacks=[calls, board])  # 6 steps an epoch
    ends = np.cumsum(calls.steps).tolist()
    assert {2, 3, 4, 5} <= set(ends) and ends[-1] == 12
    assert _marked(tmp_path) == [3, 4, 5]


def test_over_an_epochs_end_of_unknown_length(tmp_path, problem):
    board = loops.TensorBoard(tmp_path, profile=(5, 6))
    loops.train(problem.step(), problem.generated(), epochs=2, callbacks=[board])  # 5 steps an epoch
    assert {5, 6} <= set(_marked(tmp_path)) and len(_profiles(tmp_path)) == 1


@pytest.mark.parametrize(("steps", "profiles"), [((4, 99), 1), ((50, 51), 0)])
def test_past_the_end(tmp_path, tiny, steps, profiles):
    board = loops.TensorBoard(tmp_path, profile=steps)
    with pytest.warns(
        UserWarning, match=rf"`profile` \({steps[0]}, {steps[1]}\) goes past .* after step 6: "
    ):
        loops.train(tiny.step(), tiny.data(2), epochs=1, callbacks=[board])
    assert len(_profiles(tmp_path)) == profiles
    _assert_free()


class Breaks(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 4:
            raise RuntimeError("broken")


def test_a_run_that_dies_within(tmp_path, tiny):
    board = loops.TensorBoard(tmp_path, profile=(3, 6))
    with pytest.raises(RuntimeError, match="broken"):
        loops.train(tiny.step(), tiny.data(2), epochs=1, callbacks=[board, Breaks()])
    assert len(_profiles(tmp_path)) == 1
    _assert_free()


def _assert_free():
    with pytest.raises(tf.errors.UnavailableError, match="No profiler is running"):
        tf.profiler.experimental.stop()


def test_another_profiler_runs(tmp_path, tiny):
    tf.profiler.experimental.start(str(tmp_path / "other"))
    try:
        board = loops.TensorBoard(tmp_path / "ours", profile=(2, 3))
        message = (
            r"`profile` \(2, 3\) cannot begin at step 2: another profiler is running, .* leave `profile` out"
        )
        with pytest.raises(RuntimeError, match=message):
            loops.train(tiny.step(), tiny.data(2), epochs=1, callbacks=[board])
    finally:
        tf.profiler.experimental.stop(save=False)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("installed", [None, "xprof"])
def test_the_plugin(tmp_path, tiny, monkeypatch, installed):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == installed else None)
    board = loops.TensorBoard(tmp_path, profile=(1, 1))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loops.train(tiny.step(), tiny.data(2), epochs=1, callbacks=[board])
    messages = [str(one.message) for one in told if "plugin" in str(one.message)]
    assert len(messages) == (installed is None)
    assert all("`pip install tensorboard-plugin-profile`" in message for message in messages)
