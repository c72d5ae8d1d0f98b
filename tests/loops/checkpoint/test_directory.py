"""The folder of checkpoints: numbers, what is complete, and what is removed."""

import os
import shutil

import pytest
import tensorflow as tf

from gradloop.loops.checkpoint import directory
from gradloop.loops.checkpoint.directory import CheckpointFolder
from gradloop.loops.checkpoint.retention import Latest
from gradloop.loops.checkpoint.summaries import summary_of
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
    for others in ("checkpoint-x", "checkpoint-03"):  # which are nobody's
        (tmp_path / others).mkdir()
    assert folder.newest() == 4 and folder.complete() == [1, 3, 4]
    folder.remove_all_but([Latest(2)])
    kept = ["checkpoint-03", "checkpoint-3", "checkpoint-4", "checkpoint-5", "checkpoint-x"]
    assert sorted(os.listdir(tmp_path)) == kept
    assert folder.make_next() == str(tmp_path / "checkpoint-6")


def test_what_cannot_be_removed_holds_nothing_else_up(tmp_path, monkeypatch):
    folder, remove = CheckpointFolder(str(tmp_path)), tf.io.gfile.rmtree
    fill(folder, 6)
    shutil.rmtree(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1").write_text("of somebody else's")

    def refuse(path):
        if path.endswith("-3"):
            raise tf.errors.PermissionDeniedError(None, None, "in use")
        remove(path)

    monkeypatch.setattr(tf.io.gfile, "rmtree", refuse)
    folder.remove_all_but([Latest(1)])
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1", "checkpoint-3", "checkpoint-6"]
    monkeypatch.setattr(tf.io.gfile, "rmtree", remove)
    folder.clear_unfinished()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1", "checkpoint-6"]


def test_one_that_goes_as_it_is_looked_at_is_not_whole(tmp_path, monkeypatch):
    folder = CheckpointFolder(str(tmp_path))
    fill(folder)

    def gone(path):
        raise tf.errors.NotFoundError(None, None, path)

    assert folder.looks_whole(1)
    monkeypatch.setattr(directory, "summary_of", gone)
    assert not folder.looks_whole(1)


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


def test_each_manifest_is_read_once(tmp_path, monkeypatch):
    folder, read = CheckpointFolder(str(tmp_path)), []
    fill(folder, 3)
    monkeypatch.setattr(directory, "summary_of", lambda path: read.append(path) or summary_of(path))
    entries = folder.entries()
    assert folder.entries() == entries and read == [folder.checkpoint(number) for number in (1, 2, 3)]
    shutil.rmtree(read[1])
    shutil.copytree(read[0], read[1])  # another one in its place, as a run that begins anew leaves it
    os.utime(tmp_path / "checkpoint-2" / "manifest.json")
    folder.entries()
    assert read[3:] == [folder.checkpoint(2)]
