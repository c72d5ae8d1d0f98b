"""The store of checkpoints: what is written, kept, passed over, and the same for all workers."""

import os
import shutil

import keras
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.distribute.same_order import same_on_all
from tests.values import assert_same, numbers


def test_names_are_those_of_the_state(tiny, tmp_path):
    trained = tiny.step(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    place = loops.Checkpoint(tmp_path).save(trained)
    names = {name for name, _ in tf.train.list_variables(f"{place}/state")}
    assert names - {"gradloop/note"} == set(trained.state())
    assert "optimizer/head/kernel/momentum" in names


def test_the_newest_are_kept(tiny, tmp_path):
    trained, checkpoint = tiny.step(), loops.Checkpoint(tmp_path, keep=2)
    places = [checkpoint.save(trained) for _ in range(4)]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-3", "checkpoint-4"]
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
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1", "checkpoint-3", "checkpoint-x"]


@pytest.mark.parametrize("seen", [(3, 3, 3), (1, 2, 3), (0, 1), (4097, 4098), (8191, 8192)])
def test_workers_agree_on_what_they_see(seen):
    """Each finds the same, also one whose number is the mean of all."""

    def answer(own):
        mean = sum(n % 4096 for n in seen) / len(seen)
        distances = [abs(n % 4096 - mean) for n in seen]
        means = iter([mean, sum(distances) / len(distances)])
        return same_on_all(own, lambda number: next(means))

    assert {answer(own) for own in seen} == {len(set(seen)) == 1}
