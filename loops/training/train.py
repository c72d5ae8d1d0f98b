"""A whole run: `train`, and the order of all that happens in it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from ..callbacks.keras_bridge import (
    bound_optimizer,
    swap_averages_out,
    swap_in_last_epoch_too,
    tell_better_ways,
    wants_every_step,
)
from ..callbacks.run_callbacks import RunCallbacks
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.save_and_restore import store_of
from ..data.batches import Batches
from ..device.steps_per_call import StepsPerCall
from ..loss.records import Records
from ..step.train_step import TrainStep
from ..support.errors import call_each
from ..support.keras_private import take_initial_epoch
from ..update.nonfinite import NonFiniteError
from .arguments import check_arguments, find_checkpoint
from .ending import RunEnding
from .epoch_reader import EpochReader
from .evaluate import Validation
from .progress import RunProgress
from .resume import RunCheckpointer


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
    """Trains for some epochs. All that it does, a loop of your own over `step` can do.

    A call on the device runs as many steps as take a fraction of a second, or one where a callback has a
    batch hook (see `StepsCallback`); the numbers are the same. `Ctrl-C` ends training after the steps that
    are running, with their hooks, and what was learned stays. With a `checkpoint`, SIGTERM, SIGUSR1 and the
    checkpoint's `time_limit` do so too; then the run is saved, and `Preempted` ends the program with the
    exit status 75. (A handler of your own for one of these is called instead, after the same steps; if it
    calls `sys.exit`, the run is saved.) A second signal does not wait, and ends the program at once. Several
    workers, of which one was sent a signal, end and save together.

    With a `checkpoint`, the same call resumes a run that ended early. It restores what `TrainStep.state()`
    names (weights, optimizer and its learning rate, random numbers), what was chosen to train, the position
    in the data, the means of the epoch, the history and the state of callbacks: of `Unfreeze`, of Keras'
    `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` (but not how many batches its `save_freq` has
    counted), and of any with methods `state()` and `set_state(state)` (see `StepsCallback`). The numbers are
    those of a run that never stopped; on another number of devices, up to rounding. A run that is complete is
    returned as it was; with more `epochs` it continues, unless a callback had ended it. Of settings that
    differ from the checkpoint's, a warning tells which of the two win (see `Checkpoint`). A
    `TensorBoard` shows each step once.

    A `Batches` is read from `data.epoch` on, and left at the epoch that comes next. Where in it an epoch of
    the run begins depends on the epoch's number alone. A dataset resumes by its saved iterator, with what it
    has shuffled and read ahead, or, where TensorFlow cannot save that (a Python function makes the examples),
    by reading up to the position again. (If a shuffle had given all its examples when the iterator was saved,
    TensorFlow may shuffle later passes in another order.)

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
        validation: data to evaluate on, in inference mode, after each epoch.
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
            another process writes to.
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
    if found is not None:
        callbacks = [*(callback for callback in callbacks if callback is not found), found]
    reader = EpochReader(data, steps_per_epoch)
    validate = None if validation is None else Validation(step, validation)
    with bound_optimizer(step.model, step.optimizer), contextlib.ExitStack() as after:
        if found is not None:
            after.enter_context(store_of(found).held(step.mean_over_workers))
        after.callback(step.unwatch)
        hooks = RunCallbacks(
            callbacks,
            add_history=True,
            model=step.model,
            verbose=1,  # read by `ProgbarLogger` alone, which is there only if the caller put it there
            epochs=int(epochs),
            steps=reader.steps,
        )
        swap_in_last_epoch_too(hooks)
        tell_better_ways(callbacks, zip(step.metrics, step.loss_and_metrics.metrics))
        checkpointer = RunCheckpointer(found, step, reader, hooks)
        progress = RunProgress(step, hooks, data, validation)
        ending = RunEnding(found, step.mean_over_workers)
        run = _Run(step, reader, validate, hooks, progress, checkpointer, ending)
        with checkpointer.telling(progress), ending.signals.deferred():
            _begin(run, int(epochs), resume)
            ended: BaseException | None = None
            try:
                try:
                    _run_epochs(run, int(epochs))
                except (KeyboardInterrupt, SystemExit) as caught:
                    ended = caught
                    step.model.stop_training = True
                    swap_averages_out(hooks)
                    checkpointer.after_interrupt(progress, ending.agreed)
            except BaseException as error:
                out = functools.partial(swap_averages_out, hooks)
                call_each([reader.source.reset, checkpointer.put_back, out, *run.progress.closings()], error)
                raise
            swap_averages_out(hooks)
            # Averages, or what the optimizer's class makes of this; before the first update there are none.
            if int(step.optimizer.iterations.numpy()) > 0:
                step.optimizer.finalize_variable_values(step.variables)
            hooks.on_train_end(run.progress.logs)
            ending.close(ended)
            step.tell_waiting()
    return step.model.history


class _Run(NamedTuple):
    step: TrainStep
    reader: EpochReader
    validate: Validation | None
    hooks: RunCallbacks
    progress: RunProgress
    checkpointer: RunCheckpointer
    ending: RunEnding


# The order of a run. Do not change it: the reasons stand at the lines.


def _begin(run: _Run, epochs: int, resume: bool) -> None:
    """Resumes, and begins the callbacks; if this fails, those that have begun are closed."""
    try:
        run.step.model.stop_training = False  # before the callbacks, which may set it
        if resume:
            run.checkpointer.before_train_begin(epochs)  # before the callbacks, which may look at the state
        run.progress.set_train_step()
        run.hooks.on_train_begin()
        run.checkpointer.check_states()  # those of callbacks that begin with `on_train_begin`
    except BaseException as error:
        call_each([run.reader.source.reset, run.checkpointer.put_back, *run.progress.closings()], error)
        raise


def _run_epochs(run: _Run, epochs: int) -> None:
    """Data, step, hooks, validation and checkpoints of all epochs."""
    step, reader, validate, hooks, progress, checkpointer, ending = run
    checkpointer.after_train_begin()  # restores what the callbacks have reset
    each = any(wants_every_step(callback) for callback in hooks.callbacks)
    left = _epochs_left(run, epochs)
    ending.check()  # before the first trace, which may take long
    for epoch in left:
        progress.start_epoch(epoch)
        hooks.on_epoch_begin(epoch)
        step.reset_metrics()  # after the hooks, which may read those of the last epoch
        checkpointer.after_epoch_begin(progress)  # after both, as it restores what they have reset
        for records in _calls(run, each):  # reads the data and runs the step
            progress.add(records)  # before the hook, which gets the means
            if each:
                hooks.on_train_batch_end(progress.batch - 1, progress.means.result())
            if step.model.stop_training:
                break  # without a checkpoint, as that of the epoch follows
            checkpointer.after_call(progress)
            ending.check()  # signals wait until here: all that belongs to these steps is done
        logs = progress.means.result()
        if validate is not None:  # before the hooks, of which some look at `val_loss`
            logs |= {f"val_{name}": value for name, value in validate(hooks, ending.check).items()}
        progress.end_epoch(logs)
        hooks.on_epoch_end(epoch, logs)
        ended = bool(step.model.stop_training)
        asked = ending.asked()
        last = ended or epoch + 1 == epochs or asked is not None
        checkpointer.after_epoch(progress, ended, last)  # with the hooks' state
        if ended:
            return
        ending.end(asked)  # not one that came since, as the epoch may not be saved


def _epochs_left(run: _Run, epochs: int) -> range:
    """The epochs to run; counts the batches before them."""
    first, resumed = take_initial_epoch(run.step.model), run.checkpointer.resumed
    if resumed is None:
        run.progress.start_run(first, run.reader.steps)
        return range(first, epochs)
    run.progress.resume_run(resumed["epoch"], resumed["logs"])
    return range(resumed["epoch"], 0 if resumed["ended"] else epochs)


def _calls(run: _Run, each: bool) -> Iterator[Records]:
    """Runs an epoch's batches, yielding what each call on the device recorded: with `each`, a single step."""
    step, progress = run.step, run.progress
    begin = (lambda: run.hooks.on_train_batch_begin(progress.batch)) if each else None
    steps_per_call = StepsPerCall(1) if each else step.steps_per_call
    try:
        yield from run.reader.epoch(
            progress.epoch, step, steps_per_call, begin, progress.steps_allowed, progress.batch
        )
    except NonFiniteError:
        progress.add(run.reader.unfinished)  # the steps of the call that were made
        raise
