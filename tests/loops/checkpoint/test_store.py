"""The store of checkpoints: what is written, kept, passed over, and the same for all workers."""

import os
import shutil

import keras
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.checkpoint.saved_step import SavedStep
from gradloop.loops.checkpoint.store import CheckpointStore
from gradloop.loops.distribute.same_order import same_on_all_workers
from tests.values import assert_same, numbers


def names(folder):
    """What a user sees there."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_names_are_those_of_the_state(tiny, tmp_path):
    trained = tiny.step(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    place = loops.Checkpoint(tmp_path).save(trained)
    names = {name for name, _ in tf.train.list_variables(f"{place}/state")}
    assert names - {"gradloop/note"} == set(trained.state())
    assert "optimizer/head/kernel/momentum" in names


def test_the_newest_are_kept(tiny, tmp_path):
    trained, checkpoint = tiny.step(), loops.Checkpoint(tmp_path, keep=2)
    places = [checkpoint.save(trained) for _ in range(4)]
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-4"]
    assert checkpoint.newest == places[-1] == str(tmp_path / "checkpoint-4")


def test_one_that_was_not_finished_is_passed_over(tiny, tmp_path):
    trained, checkpoint = tiny.step(), loops.Checkpoint(tmp_path)
    whole = checkpoint.save(trained)
    before = numbers(trained.state())
    shutil.copytree(whole, tmp_path / "checkpoint-2")
    os.remove(tmp_path / "checkpoint-2" / "manifest.json")
    (tmp_path / "checkpoint-x").mkdir()
    loops.train(trained, tiny.data(), epochs=1)
    assert checkpoint.newest == whole
    assert checkpoint.restore(trained) is None
    assert_same(numbers(trained.state()), before)
    assert checkpoint.save(trained).endswith("checkpoint-3")
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-3", "checkpoint-x"]


def test_a_damaged_one_takes_no_place_of_one_that_is_whole(tiny, tmp_path):
    trained, checkpoint = tiny.step(), loops.Checkpoint(tmp_path, keep=2)
    places = [checkpoint.save(trained, iter(tiny.data())) for _ in range(2)]
    with open(f"{places[-1]}/state.data-00000-of-00001", "r+b") as file:
        file.write(b"else")
    with pytest.warns(UserWarning, match="checkpoint-2: state cannot be read .*Checksum does not match"):
        assert checkpoint.restore(trained, tiny.data()).position == 0
    places.append(checkpoint.save(trained))
    assert names(tmp_path) == [f"checkpoint-{n}" for n in (1, 2, 3)]
    places.append(checkpoint.save(trained))
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-4"]


def test_where_none_is_whole_nothing_begins_anew(tiny, kept):
    for number in (1, 2):
        os.remove(kept / f"checkpoint-{number}" / "state.index")
    trained = tiny.step()
    before = numbers(trained.state())
    none = r"has no checkpoint that is whole \(checkpoint-2: state.index cannot be .*; checkpoint-1: .* anew"
    with pytest.raises(ValueError, match=none):
        loops.train(trained, tiny.data(), epochs=3, checkpoint=kept)
    assert_same(numbers(trained.state()), before)
    assert sorted(os.listdir(kept)) == ["checkpoint-1", "checkpoint-2"]


def test_a_worker_that_cannot_read_takes_all_to_the_one_before(tiny, kept):
    """With the means of two workers, of which the other fails at the first."""
    saved, calls, failures = SavedStep(tiny.step()), [], iter([1.0, 0.0])

    def mean(number):
        calls.append(number)  # once when nothing is in flight; twice for what each sees, then if it failed
        return number if (len(calls) - 1) % 3 or len(calls) == 1 else (number + next(failures)) / 2

    saved.mean_over_workers = mean
    with pytest.warns(UserWarning, match="checkpoint-2: another worker cannot read it"):
        file = CheckpointStore(str(kept), 3, "previous").load(saved)
    assert file.path == str(kept / "checkpoint-1" / "state")


def test_what_is_done_meanwhile_is_done_once(tiny, kept):
    """Also where damage shows before anything is read, since workers may wait for each other in it."""
    (kept / "checkpoint-2" / "manifest.json").write_text("{}")
    looked, store = [], CheckpointStore(str(kept), 3, "previous")
    with pytest.warns(UserWarning, match="checkpoint-2: manifest.json is not what was written"):
        assert store.load(SavedStep(tiny.step()), lambda: looked.append("once")) is not None
    assert looked == ["once"]


@pytest.mark.parametrize("seen", [(3, 3, 3), (1, 2, 3), (0, 1), (4097, 4098), (8191, 8192)])
def test_workers_agree_on_what_they_see(seen):
    """Each finds the same, also one whose number is the mean of all."""

    def answer(own):
        mean = sum(n % 4096 for n in seen) / len(seen)
        distances = [abs(n % 4096 - mean) for n in seen]
        means = iter([mean, sum(distances) / len(distances)])
        return same_on_all_workers(own, lambda number: next(means))

    assert {answer(own) for own in seen} == {len(set(seen)) == 1}
