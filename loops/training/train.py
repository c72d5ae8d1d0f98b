"""`train`: what it takes, and the run that it makes of it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence

import keras
import tensorflow as tf

from ..callbacks.keras_bridge import bound_optimizer, set_monitor_modes, swap_in_last_epoch_too
from ..callbacks.run_callbacks import RunCallbacks
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.save_and_restore import store_of
from ..data.batches import Batches
from ..step.train_step import TrainStep
from ..update.nonfinite import NonFiniteError
from .arguments import check_arguments, find_checkpoint
from .ending import RunEnding
from .epoch_reader import EpochReader
from .evaluate import Validation
from .going_back import GoingBack, check_restores
from .progress import RunProgress
from .resume import RunCheckpointer
from .run import Run, run_whole


def train(
    step: TrainStep,
    data: Batches | tf.data.Dataset,
    *,
    epochs: int,
    steps_per_epoch: int | None = None,
    validation: Batches | tf.data.Dataset | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    resume: bool = True,
) -> keras.callbacks.History:
    """Trains for some epochs. Your own loop over `step` can do everything that this function does.

    One call on the device runs as many steps as take a fraction of a second. With a callback that has a batch
    hook, it runs one step (see `StepsCallback`). The numbers are the same.

    `Ctrl-C` stops training after the steps that are running and their hooks. The model keeps what it has
    learned. With a `checkpoint`, SIGTERM, SIGUSR1 and the checkpoint's `time_limit` stop it in the same way:
    the run is saved, and `Preempted` ends the program with the exit status 75. A second signal ends the
    program at once. Your own handler for one of these signals is called after the same steps; if it calls
    `sys.exit`, the run is saved. When one of several workers gets a signal, all of them stop and save.

    With a `checkpoint`, the same call resumes a run that ended early. It restores:

    - what `TrainStep.state()` names: weights, optimizer, learning rate, random numbers; and what
      `keras.random` draws without a seed (but not what `tf.random.normal` and its like do);
    - which variables train, the position in the data, the means of the epoch, the history;
    - the state of callbacks: of `Unfreeze`, of Keras' `EarlyStopping`, `ReduceLROnPlateau` and
      `ModelCheckpoint` (but not the batches that its `save_freq` has counted), and of any callback with
      methods `state()` and `set_state(state)` (see `StepsCallback`).

    The numbers are those of a run that never stopped; on another number of devices, up to rounding. If the
    run is complete, its history is returned at once; with more `epochs` it continues, unless a callback had
    ended it. If settings differ from those in the checkpoint, a warning says which of the two are used (see
    `Checkpoint`). `TensorBoard` shows each step once. A `keras.callbacks.CSVLogger` appends to its file where
    the run resumes, also with `append=False`, and has each epoch once then.

    A `Batches` is read from `data.epoch` on; afterwards `data.epoch` is the next epoch. Where an epoch of
    the run begins in the data depends only on the epoch's number. A dataset resumes from its saved iterator,
    which holds what it has shuffled and read ahead. If TensorFlow cannot save the iterator (a Python function
    makes the examples), the dataset is read again up to the position. Later passes are shuffled as they would
    have been.

    If a step with `on_nonfinite="restore"` finds NaN or infinity, the run resumes from its last checkpoint in
    the same way, with lower learning rates (see `Restore`). A line on standard error says so. Callbacks get
    `on_train_failed` and then `on_train_begin`, as in two calls of `train`. Such a run also saves its
    beginning. The data then comes in the same order.

    `keras.callbacks.BackupAndRestore` works too; it resumes at whole epochs, and only in a `Batches`. (It
    must come before Keras' `SwapEMAWeights` in `callbacks`, or it saves averages as weights.)

    With an optimizer that averages weights (`use_ema=True`) the model ends with the averages, even if the run
    was stopped early. An epoch's logs are means over its examples: `loss`, each metric, and with validation
    `val_loss` and so on; beside them is what the step gave to `loops.record`.

    Args:
        step: what to do with each batch.
        data: a `Batches` or a `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`.
        epochs: how many.
        steps_per_epoch: batches in an epoch, which continues where the last one stopped in the data; the data
            begins anew when it ends. None: each epoch is one pass over the data.
        validation: data to evaluate on, in inference mode, after each epoch; None for none.
        callbacks: Keras callbacks of any kind. They find the model, with `model.optimizer`, and may set
            `model.stop_training`.
        checkpoint: a folder or a `Checkpoint`, which may also be among `callbacks`, to save the run after
            each epoch, when it ends before its time, and as the `Checkpoint` says. None to save nothing.
        resume: whether to resume a run that the folder holds. False begins a new one, whose checkpoints
            replace the older ones as there come to be more than `Checkpoint(keep=)`.

    Returns:
        A `keras.callbacks.History`: `.history` maps each name to its values by epoch, those before a
        checkpoint included.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: `epochs` or `steps_per_epoch` below 1, empty data, endless data without
            `steps_per_epoch`, a checkpoint that cannot be restored (see `Checkpoint.restore`), a folder that
            another process writes to, `on_nonfinite="restore"` without a checkpoint.
        OSError: a checkpoint cannot be written; those before it are as they were.
        NonFiniteError: from the step; callbacks have been given the steps before it.
        Preempted: a signal or the time limit ended the run, which is saved.

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
    callbacks = check_arguments(step, epochs, callbacks, resume)
    found = find_checkpoint(checkpoint, callbacks)
    check_restores(step, found)
    if found is not None:
        callbacks = [*(callback for callback in callbacks if callback is not found), found]
    read = functools.partial(
        EpochReader, data, steps_per_epoch, keep=found is not None, validation=validation
    )
    reader = read()
    validate = None if validation is None else Validation(step, validation)
    with bound_optimizer(step.model, step.optimizer), contextlib.ExitStack() as after:
        if found is not None:
            after.enter_context(store_of(found).locked(step.mean_over_workers))
        after.callback(step.unwatch)
        ending = RunEnding(found, step.mean_over_workers)
        after.enter_context(ending.signals.deferred())
        if found is not None:
            reader.position(0)  # at first it draws seeds, and sets them back: nothing may end that
        going_back = GoingBack(step, found)
        while True:
            hooks = RunCallbacks(
                callbacks,
                add_history=True,
                model=step.model,
                verbose=1,  # read by `ProgbarLogger` alone, which is there only if the caller put it there
                epochs=int(epochs),
                steps=reader.steps,
            )
            swap_in_last_epoch_too(hooks)
            set_monitor_modes(callbacks, zip(step.metrics, step.loss_and_metrics.metrics))
            checkpointer = RunCheckpointer(found, step, reader, hooks, going_back.cuts)
            progress = RunProgress(step, hooks, data, validation)
            run = Run(step, reader, validate, hooks, progress, checkpointer, ending)
            try:
                run_whole(run, int(epochs), resume or going_back.cuts is not None)
                break
            except NonFiniteError as error:
                if error is not reader.nonfinite:  # of another step, in a callback
                    raise
                going_back.after(error)  # raises it unless the run is to go back
            reader = read()
    return step.model.history
