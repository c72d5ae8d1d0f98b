"""One run from its beginning or a checkpoint: the order of all that happens in it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from ..callbacks.keras_bridge import append_csv_logs, swap_averages_out, wants_every_step
from ..callbacks.run_callbacks import RunCallbacks
from ..device.steps_per_call import StepsPerCall
from ..loss.records import Records
from ..step.train_step import TrainStep
from ..support.errors import call_each
from ..support.keras_private import take_initial_epoch
from ..update.nonfinite import NonFiniteError
from ..update.restore import RATE_CUTS
from .ending import RunEnding, report_preemption
from .epoch_reader import EpochReader
from .evaluate import Validation
from .progress import RunProgress
from .resume import RunCheckpointer


class Run(NamedTuple):
    """What a run is made of."""

    step: TrainStep
    reader: EpochReader
    validate: Validation | None
    hooks: RunCallbacks
    progress: RunProgress
    checkpointer: RunCheckpointer
    ending: RunEnding


# The order of a run. Do not change it: the reasons stand at the lines.


def run_whole(run: Run, epochs: int, resume: bool) -> None:
    """A run from its beginning, or where it resumes, to its end; what fails closes what has begun."""
    step, reader, _, hooks, progress, checkpointer, ending = run
    with report_preemption(progress, lambda: checkpointer.newest):
        _begin(run, epochs, resume)
        ended: BaseException | None = None
        try:
            try:
                _run_epochs(run, epochs)
            except (KeyboardInterrupt, SystemExit) as caught:
                ended = caught
                step.model.stop_training = True
                swap_averages_out(hooks)
                checkpointer.after_interrupt(progress, ending.agreed)
        except BaseException as error:
            out = functools.partial(swap_averages_out, hooks)
            call_each([reader.source.reset, checkpointer.put_back, out, *progress.closings()], error)
            raise
        swap_averages_out(hooks)
        # Averages, or what the optimizer's class makes of this; before the first update there are none.
        if int(step.optimizer.iterations.numpy()) > 0:
            step.optimizer.finalize_variable_values(step.variables)
        hooks.on_train_end(progress.logs)
        ending.close(ended)
        step.report_waiting()


def _begin(run: Run, epochs: int, resume: bool) -> None:
    """Resumes, and begins the callbacks; if this fails, those that have begun are closed."""
    try:
        run.step.model.stop_training = False  # before the callbacks, which may set it
        if resume:
            run.checkpointer.before_train_begin(epochs)  # before the callbacks, which may look at the state
        run.progress.set_train_step()
        resumed = run.checkpointer.resumed
        with append_csv_logs(run.hooks.callbacks, None if resumed is None else resumed["epoch"]):
            run.hooks.on_train_begin()
        run.checkpointer.check_states()  # those of callbacks that begin with `on_train_begin`
    except BaseException as error:
        call_each([run.reader.source.reset, run.checkpointer.put_back, *run.progress.closings()], error)
        raise


def _run_epochs(run: Run, epochs: int) -> None:
    """Data, step, hooks, validation and checkpoints of all epochs."""
    step, reader, validate, hooks, progress, checkpointer, ending = run
    checkpointer.after_train_begin()  # restores what the callbacks have reset
    each = any(wants_every_step(callback) for callback in hooks.callbacks)
    left = _epochs_left(run, epochs)
    checkpointer.before_first_epoch(progress)
    if left and checkpointer.cuts is None:  # else the checkpoint has too few until there is a step to save
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
        if step.on_nonfinite == "skip" or step.on_spike is not None:
            logs["skipped"] = float(progress.means.skipped)
        if step.rate_cuts is not None:
            logs[RATE_CUTS] = float(step.rate_cuts.count.numpy())
        progress.end_epoch(logs)
        hooks.on_epoch_end(epoch, logs)
        ended = bool(step.model.stop_training)
        requested = ending.requested()
        last = ended or epoch + 1 == epochs or requested is not None
        checkpointer.after_epoch(progress, ended, last)  # with the hooks' state
        if ended:
            return
        ending.end(requested)  # not one that came since, as the epoch may not be saved


def _epochs_left(run: Run, epochs: int) -> range:
    """The epochs to run; counts the batches before them."""
    first, resumed = take_initial_epoch(run.step.model), run.checkpointer.resumed
    if resumed is None:
        run.progress.start_run(first, run.reader.steps)
        return range(first, epochs)
    run.progress.resume_run(resumed["epoch"], resumed["logs"])
    return range(resumed["epoch"], 0 if resumed["ended"] else epochs)


def _calls(run: Run, each: bool) -> Iterator[Records]:
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
