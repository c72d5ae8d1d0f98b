"""A run that was ended and resumes, against one that was not."""

import os
from typing import Any

import keras
import pytest

from gradloop import loops


@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_backup_and_restore_runs(problem, assert_same_weights, tmp_path, save_freq):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=save_freq)
    step, plain = problem.step(), problem.step()
    loops.train(step, problem.data(), epochs=2, callbacks=[backup])
    loops.train(plain, problem.data(), epochs=2)
    assert_same_weights(step.model, plain.model, 0.0)


class PowerCut(keras.callbacks.Callback):
    """Ends a run with an error at the beginning of its third epoch, or in the middle of it."""

    def __init__(self, batch=None):
        super().__init__()
        self.batch, self.epoch = batch, 0
        if batch is not None:
            self.on_train_batch_end = self._batch_end

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == 2 and self.batch is None:
            raise OSError("power cut")

    def _batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == self.batch:
            raise OSError("power cut")


def _shuffled(problem):
    return loops.Batches(problem.x, problem.y, 5, seed=3)


def _adam(problem):
    return loops.TrainStep(problem.model(), problem.loss, keras.optimizers.Adam(0.05))


def _straight(problem, data, **run):
    step = _adam(problem)
    loops.train(step, data, epochs=4, **run)
    return step.model


def _cut_and_resumed(problem, folder, data, again, cut, **run):
    with pytest.raises(OSError, match="power cut"):
        backup = keras.callbacks.BackupAndRestore(folder)
        loops.train(_adam(problem), data, epochs=4, callbacks=[backup, cut], **run)
    assert os.listdir(folder), "an error must leave the backup in place"
    step = _adam(problem)
    history = loops.train(step, again, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(folder)], **run)
    assert history.epoch == [2, 3]
    assert step.model._initial_epoch is None
    return step.model


# Steps, batch, same: each value once, some of them always, the other products on request.
CASES = [(None, None, False), (None, 1, True), (3, 1, False)]
PAIRS = [(5, None, False), (13, 1, False)]
ALL = [(steps, batch, same) for steps in (None, 3, 5, 13) for batch in (None, 1) for same in (False, True)]
MARKS: dict[Any, Any] = dict.fromkeys(ALL, pytest.mark.long)
MARKS |= dict.fromkeys(PAIRS, pytest.mark.release) | dict.fromkeys(CASES, ())


@pytest.mark.parametrize(
    "steps, batch, same",
    [pytest.param(*case, marks=mark) for case, mark in MARKS.items()],
)
def test_a_backup_goes_on_in_the_order_of_an_uninterrupted_run(
    problem, assert_same_weights, tmp_path, steps, same, batch
):
    data, run = _shuffled(problem), {"steps_per_epoch": steps}
    again = data if same else _shuffled(problem)
    resumed = _cut_and_resumed(problem, tmp_path, data, again, PowerCut(batch), **run)
    straight = _shuffled(problem)
    assert_same_weights(resumed, _straight(problem, straight, **run))
    assert again.epoch == straight.epoch == -(-4 * (steps or 5) // 5)


@pytest.mark.parametrize("steps", [3, pytest.param(None, marks=pytest.mark.long)])
def test_a_backup_in_data_that_was_read_before(problem, assert_same_weights, tmp_path, steps):
    """What a script read before the run, it reads again before it takes the run up."""

    def used():
        data = _shuffled(problem)
        for _ in data:
            pass
        loops.train(problem.step(), data, epochs=1, **run)
        return data

    run = {"steps_per_epoch": steps}
    straight = _straight(problem, used(), **run)
    data = used()
    before = data.epoch
    resumed = _cut_and_resumed(problem, tmp_path / "a", data, data, PowerCut(1), **run)
    assert_same_weights(resumed, straight)
    assert data.epoch > before
    resumed = _cut_and_resumed(problem, tmp_path / "b", used(), used(), PowerCut(), **run)
    assert_same_weights(resumed, straight)


def test_a_run_that_raises_leaves_the_data_where_it_was(problem):
    data = _shuffled(problem)
    loops.train(problem.step(), data, epochs=2)
    with pytest.raises(OSError, match="power cut"):
        loops.train(problem.step(), data, epochs=4, callbacks=[PowerCut(3)])
    assert data.epoch == 2


def test_runs_in_a_row_read_epochs_in_a_row(problem, assert_same_weights):
    apart, together = problem.step(), problem.step()
    data = _shuffled(problem)
    for _ in range(3):
        loops.train(apart, data, epochs=1)
    loops.train(together, _shuffled(problem), epochs=3)
    assert_same_weights(apart.model, together.model, 0.0)
    assert data.epoch == 3


@pytest.mark.parametrize("steps", [None, 3])
def test_who_else_reads_the_data_does_not_matter(problem, assert_same_weights, steps):
    data, step = _shuffled(problem), problem.step()
    peek = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: next(iter(data)))
    loops.train(step, data, epochs=3, steps_per_epoch=steps, callbacks=[peek])
    plain = problem.step()
    loops.train(plain, _shuffled(problem), epochs=3, steps_per_epoch=steps)
    assert_same_weights(step.model, plain.model, 0.0)
