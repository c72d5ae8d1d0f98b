"""Which callbacks need a return to Python after every step, and whose optimizer they see."""

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.callbacks.keras_bridge import bound_optimizer, wants_every_step, wants_every_test_step


class OldName(keras.callbacks.Callback):
    def on_batch_end(self, batch, logs=None):
        pass


class WatchingCheckpoint(keras.callbacks.ModelCheckpoint):
    def on_train_batch_begin(self, batch, logs=None):
        pass


NO = [
    keras.callbacks.Callback,
    keras.callbacks.History,
    keras.callbacks.EarlyStopping,
    keras.callbacks.ReduceLROnPlateau,
    lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
    lambda: keras.callbacks.CSVLogger("file.csv"),
    lambda: keras.callbacks.ModelCheckpoint("model.keras"),
    lambda: keras.callbacks.BackupAndRestore("folder"),
    lambda: keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
    loops.StepsCallback,
    loops.ProgressBar,
    lambda: loops.TensorBoard("folder"),
]
YES = [
    OldName,
    keras.callbacks.TerminateOnNaN,
    keras.callbacks.ProgbarLogger,
    lambda: keras.callbacks.ModelCheckpoint("model.keras", save_freq=3),
    lambda: WatchingCheckpoint("model.keras"),
    lambda: keras.callbacks.BackupAndRestore("folder", save_freq=3),
    lambda: keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: None),
    lambda: keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None),
]


@pytest.mark.parametrize("make", NO)
def test_epoch_callbacks_do_not_slow_the_loop(make):
    assert not wants_every_step(make())
    assert not wants_every_test_step(make())


@pytest.mark.parametrize("make", YES)
def test_batch_hooks_are_seen(make):
    assert wants_every_step(make())


def test_test_batch_hooks_are_seen():
    class Watch(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            pass

    assert wants_every_test_step(Watch()) and not wants_every_step(Watch())


def test_steps_callback_does_nothing_by_itself():
    assert loops.StepsCallback().on_train_steps_end(1, {"loss": np.zeros(2)}) is None


def _model(kind):
    if kind == "sequential":
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


@pytest.mark.parametrize("kind", ["sequential", "functional"])
@pytest.mark.parametrize("fails", [False, True])
def test_an_uncompiled_model_has_no_optimizer_afterwards(kind, fails):
    model, optimizer = _model(kind), keras.optimizers.SGD()
    before = set(vars(model))
    for _ in range(2):
        try:
            with bound_optimizer(model, optimizer):
                assert model.optimizer is optimizer
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert not hasattr(model, "optimizer")
    after = set(vars(model))
    assert after == before


def test_a_compiled_model_gets_its_own_back():
    model, optimizer = _model("sequential"), keras.optimizers.SGD()
    model.compile("adam", "mse")
    own = model.optimizer
    with bound_optimizer(model, optimizer):
        assert model.optimizer is optimizer
    assert model.optimizer is own
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
