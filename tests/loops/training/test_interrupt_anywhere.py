"""`Ctrl-C` between any two lines of a run's epochs: it goes on to the numbers of one that was not ended."""

import os
import signal
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.checkpoint.saved_step import SavedStep, Snapshot
from gradloop.loops.checkpoint.tensor_file import TensorFile
from tests.loops.training.ten_examples import X, Y, batches, generated, shuffled

OURS = os.path.dirname(loops.__file__)


class Lines:
    """Calls `action` at one of the lines of ours that run within `_run_epochs`; counts all of them."""

    def __init__(self, at, action):
        self.at, self.action, self.seen, self.within = at, action, 0, False

    def __call__(self, frame, event, argument):
        if frame.f_code.co_name == "_run_epochs":
            self.within = True
        return self.line if self.within and frame.f_code.co_filename.startswith(OURS) else None

    def line(self, frame, event, argument):
        if event == "return" and frame.f_code.co_name == "_run_epochs":
            self.within = False
        if event == "line" and self.within:
            self.seen += 1
            if self.seen == self.at:
                self.within = False
                self.action()
        return self.line


def raises():
    raise KeyboardInterrupt


def sends():
    signal.raise_signal(signal.SIGINT)


def sends_sigterm():
    signal.raise_signal(signal.SIGTERM)


def in_order():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


@pytest.fixture
def default_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it
    yield
    signal.signal(signal.SIGINT, before)


class Runs:
    """The same run again and again, with one step, from the same beginning."""

    def __init__(self, data, steps_per_epoch):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        self.step = loops.TrainStep(model, "mse", keras.optimizers.Adam(0.1), accumulate=2)
        self.data, self.steps_per_epoch = data, steps_per_epoch
        self.beginning = Snapshot(SavedStep(self.step))

    def run(self, folder, lines=None):
        self.beginning.put_back()
        checkpoint = loops.Checkpoint(folder, verbose=0)
        run = {"epochs": 2, "steps_per_epoch": self.steps_per_epoch, "checkpoint": checkpoint}
        sys.settrace(lines)
        try:
            history = loops.train(self.step, self.data(), validation=batches(), **run).history
        except (KeyboardInterrupt, loops.Preempted):
            history = None  # by SIGTERM, or while the checkpoint of an interrupt was written
        finally:
            sys.settrace(None)
        return history, {name: variable.numpy() for name, variable in self.step.state().items()}


# Each way to end once, data of which TensorFlow knows no place for a release, the other pairs on request.
ALWAYS = [(batches, None, sends_sigterm), (shuffled, None, raises)]
RELEASE = [(generated, 2, sends)]
OTHERS = [
    (in_order, 4, sends),
    *((batches, None, sends), (batches, None, raises), (generated, 2, raises), (generated, 2, sends_sigterm)),
    *((shuffled, None, sends), (in_order, 4, raises)),
]


@pytest.mark.parametrize(
    "data, steps, action",
    [
        *ALWAYS,
        *(pytest.param(*case, marks=pytest.mark.release) for case in RELEASE),
        *(pytest.param(*case, marks=pytest.mark.long) for case in OTHERS),
    ],
)
@pytest.mark.parametrize("places", [5, pytest.param(10**6, marks=pytest.mark.long)], ids=["some", "all"])
def test_it_resumes_exactly(data, steps, action, places, tmp_path, default_handler):
    runs = Runs(data, steps)
    runs.run(tmp_path / "warm")
    lines = Lines(0, None)
    straight = runs.run(tmp_path / "straight", lines)
    assert lines.seen > 200
    every = max(lines.seen // places, 1)
    for at in range(1 + every // 2, lines.seen, every):
        folder = tmp_path / str(at)
        runs.run(folder, Lines(at, action))
        newest = loops.Checkpoint(folder).newest
        if action is not raises:  # nothing that was learned is lost
            assert newest, at
            saved = int(TensorFile(f"{newest}/state").values["batches_done"])
            assert saved == int(runs.step.batches_done.numpy()), at
        history, values = runs.run(folder)
        np.testing.assert_equal(history, straight[0], err_msg=str(at))
        for name, value in straight[1].items():
            np.testing.assert_array_equal(values[name], value, err_msg=f"{at} {name}")
