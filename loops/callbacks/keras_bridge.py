"""What Keras' own callbacks expect of the loop around them: batch hooks, an optimizer, averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import keras
import tensorflow as tf

from ..loss.metrics import Metric, StepMetric
from ..support.keras_private import better_mode, compile_config

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
            base = saver  # its own batch hooks do nothing with this `save_freq`
    return any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook) for hook in hooks
    )


def metric_modes(metrics: Iterable[tuple[Metric, StepMetric]]) -> dict[str, str]:
    """The mode of each metric, by name: "min" or "max"; without those whose mode Keras does not know.

    Args:
        metrics: each as the user passed it, and the `StepMetric` made of it.
    """
    modes = {own.name: better_mode(metric) for metric, own in metrics}
    return {name: mode for name, mode in modes.items() if mode}


def set_monitor_modes(
    callbacks: Sequence[keras.callbacks.Callback], metrics: Iterable[tuple[Metric, StepMetric]]
) -> None:
    """Sets the mode of callbacks with `mode="auto"` from the metrics of a step, given as for `metric_modes`.

    Keras looks among the metrics of `compile` alone.
    """
    monitoring = [c for c in callbacks if hasattr(c, "monitor_op") and getattr(c, "mode", None) == "auto"]
    modes = metric_modes(metrics) if monitoring else {}
    for callback in monitoring:
        callback.mode = modes.get(str(callback.monitor).removeprefix("val_")) or callback.mode


@contextlib.contextmanager
def append_csv_logs(
    callbacks: Iterable[keras.callbacks.Callback], resumed_epoch: int | None
) -> Iterator[None]:
    """Makes each `CSVLogger` append to its file, when training begins in the body, if the run resumes.

    Otherwise one with `append=False` would delete the rows that the run has already written. Of these, rows
    of `resumed_epoch` and later are removed, since they are written again. None for a run that begins.
    """
    overwriting = [c for c in callbacks if isinstance(c, keras.callbacks.CSVLogger) and not c.append]
    for callback in overwriting:
        # Keras sets `append_header` only when it appends, and never resets it.
        callback.append, callback.append_header = resumed_epoch is not None, True
        if resumed_epoch is not None and tf.io.gfile.exists(callback.filename):
            _remove_rows(callback.filename, callback.sep, resumed_epoch)
    try:
        yield
    finally:
        for callback in overwriting:
            callback.append = False


def _remove_rows(path: str, sep: str, first: int) -> None:
    """Removes the rows of an epoch and of later ones from a CSV file."""
    with tf.io.gfile.GFile(path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    numbers = [line.partition(sep.encode())[0] for line in lines]
    kept = [row for row, number in zip(lines, numbers) if not number.isdigit() or int(number) < first]
    if len(kept) < len(lines):
        with tf.io.gfile.GFile(f"{path}.part", "wb") as file:
            file.write(b"".join(kept))
        tf.io.gfile.rename(f"{path}.part", path, overwrite=True)


def _ema_callbacks(callbacks: keras.callbacks.CallbackList) -> list[keras.callbacks.SwapEMAWeights]:
    return [c for c in callbacks.callbacks if isinstance(c, keras.callbacks.SwapEMAWeights)]


def check_averages(
    callbacks: Sequence[keras.callbacks.Callback], optimizer: keras.optimizers.Optimizer
) -> None:
    """Raises ValueError for a `SwapEMAWeights` with an inner optimizer that keeps no averages."""
    several = getattr(optimizer, "optimizers", [optimizer])  # a `MultiOptimizer` may not know them yet
    averaging = not several or any(one.use_ema for one in several)
    if any(isinstance(c, keras.callbacks.SwapEMAWeights) for c in callbacks) and not averaging:
        raise ValueError(
            f"`callbacks` has a SwapEMAWeights, and optimizer {optimizer.name!r} keeps no averages: make it "
            "with `use_ema=True` (for a GroupedOptimizer, the one that it wraps), or leave the callback out."
        )


def swap_in_last_epoch_too(callbacks: keras.callbacks.CallbackList) -> None:
    """Makes each `SwapEMAWeights` swap weights and averages in the last epoch, as in the others.

    Otherwise it overwrites the weights in the last epoch, as for `fit`. A run that may resume needs both;
    `train` swaps back at the end, and sets the weights to the averages itself.
    """
    for callback in _ema_callbacks(callbacks):
        callback.set_params({**callback.params, "epochs": 0})  # so it takes no epoch for the last


def swap_averages_in(callbacks: keras.callbacks.CallbackList) -> None:
    """Tells each `SwapEMAWeights` that swaps by epochs that the averages are in the model.

    They are between two epochs, when the checkpoint was saved; the values are restored after this call.
    """
    for callback in _ema_callbacks(callbacks):
        if callback.swap_on_epoch:
            callback.on_test_begin()


def swap_averages_out(callbacks: keras.callbacks.CallbackList) -> None:
    """Makes each `SwapEMAWeights` that has swapped the averages in swap the weights back.

    By itself it does so when an epoch begins or an evaluation ends, which a stopped run does not reach.
    """
    for callback in _ema_callbacks(callbacks):
        callback.on_test_end()


@contextlib.contextmanager
def bound_optimizer(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Sets `model.optimizer` to the optimizer that trains while callbacks run, then restores it.

    Callbacks that set the learning rate look for it there. Without it they would fail or, on a compiled
    model, set the rate of an optimizer that is not used.
    """
    missing = object()
    before, compiled = getattr(model, "optimizer", missing), compile_config(model)
    model.optimizer = optimizer
    try:
        yield
    finally:
        # Otherwise the first step or a callback has compiled the model meanwhile.
        if compile_config(model) is compiled:
            if before is missing:
                del model.optimizer
            else:
                model.optimizer = before
