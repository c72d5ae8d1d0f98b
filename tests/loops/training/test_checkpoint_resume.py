"""A run that was cut and resumed from a checkpoint has all the numbers of one that was not."""

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.step import named_model
from gradloop.loops.training import resume
from tests.loops.training.resumed_runs import (
    EPOCHS,
    Averages,
    Cut,
    Dataset,
    Endless,
    Everything,
    Generated,
    Hooks,
    Long,
    LongDataset,
    LongGenerated,
    Noted,
    Plain,
    Rates,
    Scaled,
    Stops,
    Swaps,
    Unfreezes,
    Waits,
    assert_same_run,
    cases,
    result,
    straight,
)


def ended_and_resumed(make, folder, cut, **options):
    """The run of a case in as many pieces as `cut` makes; everything is made anew for each."""
    noted = Noted()
    while True:
        case = make()
        step = case.step()
        checkpoint = loops.Checkpoint(folder, verbose=0, **options)
        try:
            history = case.train(step, noted, cut, checkpoint=checkpoint)
        except OSError as error:
            assert str(error) == "power cut"
            continue
        if not cut.left:
            return result(step, history, noted)


# Each part of the others is in one of these, or in a test of another way to end.
@cases(
    *(Everything, Unfreezes),
    release=[Scaled, Stops, Waits, Endless, Generated],
    long=[Plain, Averages, Hooks, Dataset, Rates, Swaps, Long, LongDataset, LongGenerated],
)
def test_a_run_that_is_cut_has_the_numbers_of_one_that_is_not(make, tmp_path):
    # A step after a checkpoint in the middle of an epoch, on the last batch of one; then after another.
    assert_same_run(ended_and_resumed(make, tmp_path, Cut(10, 13), every_steps=4), straight(make))


def test_cut_before_anything_was_kept(tmp_path):
    assert_same_run(ended_and_resumed(Plain, tmp_path, Cut(2, 6)), straight(Plain))


@cases(Everything, LongDataset, release=[Unfreezes], long=[Swaps])
def test_cut_between_checkpoints_of_epochs_alone(make, tmp_path):
    assert_same_run(ended_and_resumed(make, tmp_path, Cut(8)), straight(make))


@cases(Swaps, Rates, release=[Dataset], long=[Plain, Averages])
def test_more_epochs_are_those_that_would_have_followed(make, tmp_path):
    case, noted = make(), Noted()
    for epochs in (2, EPOCHS):
        step = case.step()
        checkpoint = loops.Checkpoint(tmp_path, verbose=0)
        history = case.train(step, noted, epochs=epochs, checkpoint=checkpoint)
    assert_same_run(result(step, history, noted), straight(make))


def _to_ones(model):
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])


class Quiet(loops.StepsCallback):
    def on_epoch_end(self, epoch, logs=None):
        pass


class Begins(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        _to_ones(self.model)


class TakesStep(loops.StepsCallback):
    def set_train_step(self, step):
        _to_ones(step.model)


def _given():
    callback = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: _to_ones(callback.model))
    return callback


@pytest.mark.parametrize(("make", "times"), [(Quiet, 1), (Begins, 2), (TakesStep, 2), (_given, 2)])
def test_values_are_assigned_again_after_code_that_may_have_changed_them(
    tiny, make, times, tmp_path, monkeypatch
):
    def train(step, epochs, checkpoint=None):
        loops.train(step, tiny.data(), epochs=epochs, callbacks=[make()], checkpoint=checkpoint)
        return [variable.numpy() for variable in step.state().values()]

    straight, checkpoint = train(tiny.step(), 2), loops.Checkpoint(tmp_path, verbose=0)
    train(tiny.step(), 1, checkpoint)
    walked, assigned, tree_of, assign = [], [], named_model.tree_of, resume.assign
    monkeypatch.setattr(named_model, "tree_of", lambda model: walked.append(model) or tree_of(model))
    monkeypatch.setattr(resume, "assign", lambda *given: assigned.append(given) or assign(*given))
    for found, wanted in zip(train(tiny.step(), 2, checkpoint), straight, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert len(assigned) == times
    # For the settings that it was made with; once `stop_training` is new; after the first trace.
    assert len(walked) <= 3
