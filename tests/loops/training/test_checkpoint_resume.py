"""A run that was cut and resumed from a checkpoint has all the numbers of one that was not."""

from gradloop import loops
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
