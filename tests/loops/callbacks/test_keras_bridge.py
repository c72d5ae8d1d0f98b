"""What Keras' own callbacks need of the loop: batch hooks, the optimizer, averaged weights."""

import contextlib

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.callbacks.keras_bridge import (
    bound_optimizer,
    check_averages,
    set_monitor_modes,
    wants_every_step,
    wants_every_test_step,
)
from gradloop.loops.loss.metrics import resolve_metrics


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


@pytest.mark.numbers
def test_averages_that_nobody_keeps():
    K, swapping = keras.optimizers, [keras.callbacks.SwapEMAWeights()]
    with pytest.raises(
        ValueError, match="`callbacks` has a SwapEMAWeights, and optimizer 'sgd' keeps no averag"
    ):
        check_averages(swapping, K.SGD(name="sgd"))
    check_averages(swapping, K.SGD(use_ema=True))
    check_averages([keras.callbacks.History()], K.SGD())
    if hasattr(K, "MultiOptimizer"):
        check_averages(swapping, K.MultiOptimizer(K.OptimizerMap(K.SGD(use_ema=True), {"a": K.SGD()})))
        check_averages(swapping, K.MultiOptimizer(lambda variable: K.SGD(use_ema=True)))


@pytest.mark.parametrize(
    ("given", "monitor", "mode"),
    [
        ("accuracy", "val_accuracy", "max"),
        ("acc", "acc", "max"),
        ("mse", "val_mse", "min"),
        (keras.metrics.AUC(name="area"), "area", "max"),
        (lambda y, p: y, "<lambda>", "auto"),  # Keras asks for a `mode` then
        ("accuracy", "val_loss", "auto"),  # it knows
    ],
)
def test_which_way_a_metric_gets_better(given, monitor, mode):
    pairs = list(zip([given], resolve_metrics([given])))
    told = [
        keras.callbacks.EarlyStopping(monitor),
        keras.callbacks.ReduceLROnPlateau(monitor),
        keras.callbacks.ModelCheckpoint("model.keras", monitor),
        keras.callbacks.EarlyStopping(monitor, mode="min"),
        keras.callbacks.History(),
    ]
    set_monitor_modes(told, pairs)
    assert [callback.mode for callback in told[:4]] == [mode] * 3 + ["min"]
    assert not hasattr(told[4], "mode")


class StopAt(keras.callbacks.Callback):
    """Ends the run by a hook: sets `stop_training`, or raises."""

    def __init__(self, hook, error=None):
        super().__init__()
        self.error, self.seen = error, None
        setattr(self, hook, self.end)

    def end(self, epoch=0, logs=None):
        self.seen = self.model.get_weights()
        self.model.stop_training = True
        if self.error is not None:
            raise self.error


def _averaging(problem):
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    return loops.TrainStep(problem.model(), problem.loss, optimizer)


@pytest.mark.numbers
@pytest.mark.parametrize(
    "epochs, swap_on_epoch",
    [
        (1, True),
        (5, False),
        *(pytest.param(*case, marks=pytest.mark.release) for case in ((1, False), (5, True))),
    ],
)
def test_a_stopped_run_ends_with_the_averages(problem, assert_same_weights, epochs, swap_on_epoch):
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
    step, reference = _averaging(problem), _averaging(problem)
    stop = StopAt("on_epoch_end")
    loops.train(step, problem.data(), epochs=epochs, validation=problem.data(), callbacks=[swap, stop])
    loops.train(reference, problem.data(), epochs=1)  # which ends with the averages of the same steps
    assert_same_weights(step.model, reference.model)
    if swap_on_epoch:
        for weight, seen in zip(step.model.get_weights(), stop.seen):
            np.testing.assert_allclose(weight, seen, rtol=0, atol=1e-6)


@pytest.mark.numbers
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("disk full")])
def test_a_run_that_ends_within_validation_gives_the_weights_back(problem, assert_same_weights, error):
    step, reference = _averaging(problem), _averaging(problem)
    callbacks = [keras.callbacks.SwapEMAWeights(), StopAt("on_test_batch_end", error)]
    ends = pytest.raises(RuntimeError) if isinstance(error, RuntimeError) else contextlib.nullcontext()
    with ends:
        loops.train(step, problem.data(), epochs=3, validation=problem.data(), callbacks=callbacks)
    for batch in problem.data():
        reference(*batch)
    if isinstance(error, KeyboardInterrupt):
        reference.optimizer.finalize_variable_values(reference.variables)
    assert_same_weights(step.model, reference.model)
