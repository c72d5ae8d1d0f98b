"""A whole run: epochs, validation, callbacks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..callbacks.keras_bridge import bound_optimizer, keep_raw_weights, swap_back
from ..checkpoint.checkpoint import Checkpoint
from ..step.train_step import TrainStep
from ..step.trainable import inner_optimizer
from .epoch_loop import EpochLoop
from .epoch_reader import EpochReader
from .resume import RunCheckpointer
from .validation import Validation


def train(
    step: TrainStep,
    data: Any,
    *,
    epochs: int,
    steps_per_epoch: int | None = None,
    validation: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    resume: bool = True,
) -> keras.callbacks.History:
    """Trains for some epochs, and has no power that a loop over `step` lacks.

    It runs as many steps in a call on the device as take a fraction of a second, or one where a callback
    has a batch hook (see `StepsCallback`); the numbers are the same. `Ctrl-C` ends training after the step
    that is running, with what was learned so far.

    With a `checkpoint`, a run that ended early is taken up by the same call: with what `TrainStep.state()`
    names (weights, optimizer and its rate, random numbers), what was chosen to train, the place in the data,
    the means of the epoch so far, the history, and what callbacks remember: `Unfreeze`, Keras'
    `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` (but how many batches its `save_freq` has
    counted), and any callback with methods `state()` and `set_state(state)`, of what JSON can hold. What
    follows is as if nothing had ended it; on another number of devices too, to rounding. A run that came to
    its end is given back as it was; with more `epochs` it goes on, unless a callback had ended it. Logs hold
    the steps after the last checkpoint twice.

    A `Batches` is read from `data.epoch` on and left at the epoch that comes next; where an epoch of the run
    begins in it depends on nothing but the epoch's number. With a checkpoint, a dataset is begun as often as
    before; in the middle of it, its iterator is kept, with all that it has shuffled and read ahead, or, where
    TensorFlow cannot do that (a function of Python's gives the examples), it is read again up to there.
    (If a shuffle had given all its examples just then, TensorFlow may shuffle later passes in another order.)

    `keras.callbacks.BackupAndRestore` works too, and knows whole epochs of a `Batches` alone. (With Keras'
    `SwapEMAWeights`, it comes before that in `callbacks`: after it, it would take averages for weights.)

    With an optimizer that averages weights (`use_ema=True`) the model ends with the averages, also where the
    run was stopped before its last epoch.

    The logs of an epoch are means over its examples: `loss`, each metric, and with validation `val_loss`
    and so on.

    Args:
        step: what to do with each batch.
        data: a `Batches` or a `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`.
        epochs: how many.
        steps_per_epoch: batches in an epoch: the data goes on where the last epoch stopped, and starts
            again at its end. None: each epoch is one pass over the data.
        validation: data to evaluate on, in inference mode, after each epoch.
        callbacks: Keras callbacks of any kind. They find the model, with `model.optimizer`, and may set
            `model.stop_training`.
        checkpoint: a folder, or a `Checkpoint`, in which the run is kept: after each epoch, after `Ctrl-C` in
            an epoch (of one process; other workers may be at other steps), and as the `Checkpoint` says. Also
            one among `callbacks`. None for not.
        resume: whether a run that the folder holds goes on. False begins a new one; its checkpoints take the
            places of the older ones as they become more than `Checkpoint(keep=)`.

    Returns:
        A `keras.callbacks.History`: `.history` maps each name to its values by epoch, those before a
        checkpoint included.

    Raises:
        TypeError: `step`, `data`, `checkpoint` or a callback of the wrong type.
        ValueError: `epochs` or `steps_per_epoch` below 1, empty data, endless data without
            `steps_per_epoch`, a checkpoint that is damaged or of something else (see `Checkpoint.restore`).
        OSError: a checkpoint cannot be written; those before it are as they were.
        NonFiniteError: from the step; callbacks have been given the steps before it.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step = loops.TrainStep(model, "mse", "adam")
        >>> data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        >>> history = loops.train(step, data, epochs=3, validation=data)
        >>> sorted(history.history), len(history.history["loss"])
        (['loss', 'val_loss'], 3)
    """
    if not isinstance(step, TrainStep):
        raise TypeError(f"`step` must be a `loops.TrainStep`, not {step!r}.")
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 1:
        raise ValueError(f"`epochs` must be a whole number of at least 1, not {epochs!r}.")
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"`callbacks` must be a list or tuple, not {callbacks!r}.")
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(f"`callbacks` holds {callback!r}, which is no `keras.callbacks.Callback`.")
    kept = _checkpoint_of(checkpoint, callbacks)
    if not isinstance(resume, bool):
        raise TypeError(f"`resume` must be True or False, not {resume!r}.")
    if kept is not None:
        kept.check_folder()
        callbacks = [*(callback for callback in callbacks if callback is not kept), kept]
    feed = EpochReader(data, steps_per_epoch)
    evaluation = None if validation is None else Validation(step, validation)
    with bound_optimizer(step.model, step.optimizer):
        hooks = keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            model=step.model,
            verbose=1,  # read by `ProgbarLogger` alone, which is there only if the caller put it there
            epochs=int(epochs),
            steps=feed.steps,
        )
        keep_raw_weights(hooks)
        keeper = None if kept is None else RunCheckpointer(kept, step, feed, hooks)
        run = EpochLoop(step, feed, evaluation, hooks, keeper)
        step.model.stop_training = interrupted = False
        if keeper is not None and resume:
            keeper.resume(int(epochs))
        for reader in run.readers:
            reader.set_train_step(step)
        # A callback that cannot begin ends the call here: `on_train_end` is for those that have begun.
        try:
            hooks.on_train_begin()
        except BaseException:
            feed.give_back()
            raise
        try:
            if keeper is not None:
                keeper.after_train_begin()
            run.epochs(int(epochs))
        except KeyboardInterrupt:
            step.model.stop_training = interrupted = True
        except BaseException:
            # As in `fit`, a run that failed has not ended: a backup must stay. Our own close their files.
            feed.give_back()
            swap_back(hooks)
            for reader in run.readers:
                reader.on_train_end(run.logs)
            raise
        swap_back(hooks)
        try:
            if interrupted:
                run.keep()
        except BaseException:
            for reader in run.readers:
                reader.on_train_end(run.logs)
            raise
        # Before the first update there are no averages.
        if inner_optimizer(step).use_ema and int(step.optimizer.iterations.numpy()) > 0:
            step.optimizer.finalize_variable_values(step.variables)
        hooks.on_train_end(run.logs)
    return step.model.history


def _checkpoint_of(checkpoint: Any, callbacks: Sequence[keras.callbacks.Callback]) -> Checkpoint | None:
    """The one `Checkpoint` of a call, whichever way it was given."""
    found = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    if checkpoint is not None and checkpoint not in found:
        if not isinstance(checkpoint, (str, os.PathLike, Checkpoint)):
            raise TypeError(f"`checkpoint` must be a folder or a `loops.Checkpoint`, not {checkpoint!r}.")
        found.append(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
    if len(found) > 1:
        raise ValueError(
            "There are several checkpoints in `checkpoint` and `callbacks`, and a run goes on from one: pass "
            "one `loops.Checkpoint`."
        )
    return found[0] if found else None
