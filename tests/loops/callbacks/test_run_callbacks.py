"""A callback that raises: the error tells whose it is, files are closed, and the checkpoint is whole."""

import functools

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.callbacks.run_callbacks import RunCallbacks

HOOKS = [
    ("set_model", "before the first epoch"),
    ("set_params", "before the first epoch"),
    ("on_train_begin", "before the first epoch"),
    ("on_epoch_begin", "after step {}, in epoch 1"),
    ("on_train_batch_begin", "after step {}, in epoch 1"),
    ("on_train_batch_end", "after step {}, in epoch 1"),
    ("on_test_begin", "after step {}, in epoch 1"),
    ("on_test_batch_begin", "after step {}, in epoch 1"),
    ("on_test_batch_end", "after step {}, in epoch 1"),
    ("on_test_end", "after step {}, in epoch 1"),
    ("on_epoch_end", "after step {}, in epoch 1"),
    ("on_train_end", "after step {}, in epoch 2"),
    ("set_train_step", "before the first epoch"),
    ("steps_allowed", "after step {}, in epoch 1"),
    ("on_train_steps_end", "after step {}, in epoch 1"),
    ("on_test_steps_end", "after step {}, in epoch 1"),
]
# How many steps the run has made when these are called first.
AFTER = {"on_epoch_begin": 0, "on_train_batch_begin": 0, "on_train_batch_end": 1, "steps_allowed": 0}
AFTER |= {"on_train_steps_end": 1, "on_train_end": 6}


class Fails(loops.StepsCallback):
    def __init__(self, hook, error):
        super().__init__()

        def fail(*arguments, **named):
            raise error

        setattr(self, hook, fail)


class Log(loops.StepsCallback):
    """Holds a file open while it runs."""

    def __init__(self, path):
        super().__init__()
        self.path, self.file = path, None

    def on_train_begin(self, logs=None):
        self.file = open(self.path, "w")

    def on_train_end(self, logs=None):
        self.file.close()


@functools.cache
def _step():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    return loops.TrainStep(model, "mse", "sgd")


def _data():
    return loops.Batches(np.ones((6, 3), "float32"), np.ones((6, 1), "float32"), 2, shuffle=False)


@pytest.mark.parametrize(("hook", "when"), HOOKS)
def test_an_error_tells_callback_hook_and_step(hook, when, tmp_path):
    step, error, log = _step(), KeyError("mine"), Log(tmp_path / "log")
    step.batches_done.assign(0)
    step.optimizer.iterations.assign(0)
    step.steps_per_call.steps = 1
    callbacks = [log, Fails(hook, error)]
    with pytest.raises(KeyError) as caught:
        loops.train(step, _data(), epochs=2, validation=_data(), callbacks=callbacks)
    assert caught.value is error
    when = when.format(AFTER.get(hook, 3))
    assert error.__notes__ == [f"The callback Fails raised this in its `{hook}`, {when}."]
    assert hook.startswith("set_") and log.file is None or log.file.closed


@pytest.mark.parametrize(
    ("method", "when"), [("state", "after step 3, in epoch 1"), ("set_state", "before the first epoch")]
)
def test_what_a_checkpoint_asks_for_tells_its_callback_too(method, when, tmp_path):
    class Remembers(keras.callbacks.Callback):
        fails = None

        def state(self):
            self.call("state")
            return {}

        def set_state(self, state):
            self.call("set_state")

        def on_train_begin(self, logs=None):
            self.on_epoch_end = lambda epoch, logs: setattr(self, "fails", "state")

        def call(self, name):
            if name == self.fails == method:
                raise KeyError("mine")

    step, callback = _step(), Remembers()
    step.batches_done.assign(0)
    step.optimizer.iterations.assign(0)
    with pytest.raises(KeyError) as caught:
        loops.train(step, _data(), epochs=1, callbacks=[callback], checkpoint=tmp_path)
        callback.fails = "set_state"
        loops.train(step, _data(), epochs=2, callbacks=[callback], checkpoint=tmp_path)
    assert caught.value.__notes__ == [f"The callback Remembers raised this in its `{method}`, {when}."]


def test_the_first_error_is_raised_and_later_ones_are_told_with_their_callbacks():
    first, then = ZeroDivisionError("first"), OSError("disk full")
    callbacks = [Fails("on_train_end", then), Fails("on_epoch_end", first)]
    with pytest.raises(ZeroDivisionError) as caught:
        loops.train(_step(), _data(), epochs=1, callbacks=callbacks)
    assert caught.value is first
    whose, later = first.__notes__
    assert whose.startswith("The callback Fails raised this in its `on_epoch_end`, after step ")
    assert later.startswith(
        "Then OSError came as well: disk full The callback Fails raised this in its `on_t"
    )


@pytest.mark.numbers
def test_the_checkpoint_is_whole(tiny, assert_same_weights, tmp_path):
    class FailsLater(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise OSError("disk full")

    straight, step, resumed = (tiny.step(optimizer="sgd") for _ in range(3))
    loops.train(straight, tiny.data(), epochs=2)
    with pytest.raises(OSError, match="disk full"):
        loops.train(step, tiny.data(), epochs=2, callbacks=[FailsLater()], checkpoint=tmp_path)
    history = loops.train(resumed, tiny.data(), epochs=2, checkpoint=tmp_path)
    assert_same_weights(resumed.model, straight.model, 0.0)
    assert history.epoch == [0, 1]


def test_an_interrupt_is_nobodys_error():
    class Interrupts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        RunCallbacks([Interrupts()]).on_epoch_end(0, {})
    assert not hasattr(caught.value, "__notes__")


def test_logs_are_those_of_keras():
    """Sorted, a copy of the run's, and the same for all callbacks, so that one may add to them."""
    seen = []
    adds = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(more=1.0))
    reads = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(list(logs)))
    logs = {"loss": 1.0, "accuracy": 0.5}
    for kind in (RunCallbacks, keras.callbacks.CallbackList):
        kind([adds, reads]).on_epoch_end(0, logs)
    assert seen == [["accuracy", "loss", "more"]] * 2 and list(logs) == ["loss", "accuracy"]
