"""The folder of checkpoints: numbers, what is complete, and what is removed."""

import os

import pytest

from gradloop.loops.checkpoint.directory import CheckpointFolder
from gradloop.loops.checkpoint.retention import Latest
from gradloop.loops.checkpoint.tensor_file import write_state
from gradloop.loops.checkpoint.whole import write_checkpoint


def fill(folder, count=1):
    """Writes complete ones, and returns where the last is."""
    for _ in range(count):
        place = folder.make_next()
        write_checkpoint(place, {}, {})
    return place


def test_a_folder_that_is_not_there_holds_none(tmp_path):
    assert CheckpointFolder(str(tmp_path / "a")).newest() is None
    assert not os.listdir(tmp_path)


def test_numbers_are_numbers_and_not_text(tmp_path):
    folder = CheckpointFolder(str(tmp_path))
    assert fill(folder, 11) == str(tmp_path / "checkpoint-11")
    assert folder.newest() == 11


def test_the_newest_are_kept_and_what_was_half_written_before_them_goes(tmp_path):
    folder = CheckpointFolder(str(tmp_path))
    fill(folder)
    folder.make_next()  # 2 and 5 are never filled
    fill(folder, 2)
    folder.make_next()
    (tmp_path / "checkpoint-x").mkdir()
    assert folder.newest() == 4
    folder.remove_all_but([Latest(2)])
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-3", "checkpoint-4", "checkpoint-5", "checkpoint-x"]
    assert folder.make_next() == str(tmp_path / "checkpoint-6")


def test_one_that_fails_leaves_nothing_and_its_error(tmp_path):
    folder = CheckpointFolder(str(tmp_path))
    place = folder.make_next()
    with pytest.raises(KeyboardInterrupt), folder.removed_on_error(place):
        write_state(f"{place}/iterator", {}, {})
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="No checkpoint can be written in '.*file/a'"):
        CheckpointFolder(str(tmp_path / "file" / "a")).make_next()
