"""What Keras' own callbacks expect of the loop around them: batch hooks, an optimizer, averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import keras

from ..loss.metrics import Metric, StepMetric
from ..support.keras_private import better_way, compiled_with

_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
_TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")


def wants_every_step(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has a hook that must run between any two training steps."""
    return _overrides(callback, _BATCH_HOOKS)


def wants_every_test_step(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has a hook that must run between any two evaluation steps."""
    return _overrides(callback, _TEST_HOOKS)


def _overrides(callback: keras.callbacks.Callback, hooks: Sequence[str]) -> bool:
    base = keras.callbacks.Callback
    for saver in (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore):
        if isinstance(callback, saver) and callback.save_freq == "epoch":
            base = saver  # its own batch hooks look at `save_freq` and do nothing
    return any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook) for hook in hooks
    )


def better_ways(metrics: Iterable[tuple[Metric, StepMetric]]) -> dict[str, str]:
    """Names of metrics to "min" or "max", of those of which Keras knows it.

    Args:
        metrics: each as it was given, and what became of it.
    """
    ways = {own.name: better_way(given) for given, own in metrics}
    return {name: way for name, way in ways.items() if way}


def tell_better_ways(
    callbacks: Sequence[keras.callbacks.Callback], metrics: Iterable[tuple[Metric, StepMetric]]
) -> None:
    """Sets the mode of callbacks with `mode="auto"` by which way a step's metrics get better.

    Keras looks for that among the metrics of `compile`; the metrics are as in `better_ways`.
    """
    monitoring = [c for c in callbacks if hasattr(c, "monitor_op") and getattr(c, "mode", None) == "auto"]
    ways = better_ways(metrics) if monitoring else {}
    for callback in monitoring:
        callback.mode = ways.get(str(callback.monitor).removeprefix("val_")) or callback.mode


@contextlib.contextmanager
def csv_files_kept(callbacks: Iterable[keras.callbacks.Callback], resumes: bool) -> Iterator[None]:
    """Has each `CSVLogger` append to its file, where training begins in the body, if the run resumes.

    Otherwise one with `append=False` would lose the rows that the run has written already.
    """
    emptying = [c for c in callbacks if isinstance(c, keras.callbacks.CSVLogger) and not c.append]
    for callback in emptying:
        # Keras sets the second only where it appends, and never back.
        callback.append, callback.append_header = resumes, True
    try:
        yield
    finally:
        for callback in emptying:
            callback.append = False


def _averages(callbacks: keras.callbacks.CallbackList) -> list[keras.callbacks.SwapEMAWeights]:
    return [c for c in callbacks.callbacks if isinstance(c, keras.callbacks.SwapEMAWeights)]


def check_averages(
    callbacks: Sequence[keras.callbacks.Callback], optimizer: keras.optimizers.Optimizer
) -> None:
    """Raises ValueError if a `SwapEMAWeights` has no averages of an optimizer, without its loss scale."""
    several = getattr(optimizer, "optimizers", [optimizer])  # a `MultiOptimizer` may not know them yet
    averaging = not several or any(one.use_ema for one in several)
    if any(isinstance(c, keras.callbacks.SwapEMAWeights) for c in callbacks) and not averaging:
        raise ValueError(
            f"`callbacks` has a SwapEMAWeights, and optimizer {optimizer.name!r} keeps no averages: make it "
            "with `use_ema=True` (for a GroupedOptimizer, the one that it wraps), or leave the callback out."
        )


def swap_in_last_epoch_too(callbacks: keras.callbacks.CallbackList) -> None:
    """Has each `SwapEMAWeights` swap weights and averages in the last epoch, as in the others.

    Otherwise it overwrites the weights there, as `fit` wants it. A run that may resume needs both; `train`
    swaps back at the end, and sets the weights to the averages itself.
    """
    for callback in _averages(callbacks):
        callback.set_params({**callback.params, "epochs": 0})  # so no epoch is the last


def swap_averages_in(callbacks: keras.callbacks.CallbackList) -> None:
    """Has each `SwapEMAWeights` that swaps by epochs know that the averages are in the model.

    So it is between two epochs, when the checkpoint was made; the values are restored after this.
    """
    for callback in _averages(callbacks):
        if callback.swap_on_epoch:
            callback.on_test_begin()


def swap_averages_out(callbacks: keras.callbacks.CallbackList) -> None:
    """Has each `SwapEMAWeights` that has put the averages in the model put the weights back.

    By itself it does so when an epoch begins or an evaluation ends, to which a stopped run does not come.
    """
    for callback in _averages(callbacks):
        callback.on_test_end()


@contextlib.contextmanager
def bound_optimizer(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Makes `model.optimizer` the one that trains while callbacks run, then restores it.

    Callbacks that set the learning rate look for it there. Without it they would fail or, on a compiled
    model, set the rate of an optimizer that is not used.
    """
    missing = object()
    before, compiled = getattr(model, "optimizer", missing), compiled_with(model)
    model.optimizer = optimizer
    try:
        yield
    finally:
        # Else it was compiled meanwhile, by the first step or by a callback.
        if compiled_with(model) is compiled:
            if before is missing:
                del model.optimizer
            else:
                model.optimizer = before
