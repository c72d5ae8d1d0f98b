"""One writer at a time in a folder."""

import os
import signal

import pytest

from gradloop.loops.support.folder_lock import FolderLock
from tests.loops.folder_holder import holder


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def test_within_a_process(folder):
    lock = FolderLock(folder)
    with pytest.raises(
        ValueError, match="`log_dir` '.*' is being written by another `TensorBoard` of this .*"
    ):
        FolderLock(folder)
    lock.release()
    lock.release()
    assert os.listdir(folder) == []
    FolderLock(folder).release()


def test_one_that_nobody_holds_any_more(folder):
    FolderLock(folder)
    assert os.listdir(folder) == [], "it goes with its object"
    with pytest.raises(OSError, match="No such file or directory"):
        FolderLock(os.path.join(folder, "a"))


def test_kinds_do_not_stand_in_each_others_way(folder):
    board = FolderLock(folder)
    checkpoint = FolderLock(folder, "folder", "Checkpoint")
    with pytest.raises(ValueError, match="`folder` .* by another `Checkpoint` of this .*, or end that first"):
        FolderLock(folder, "folder", "Checkpoint")
    board.release()
    checkpoint.release()


def test_of_another_process_until_it_is_killed(folder):
    process = holder(folder)
    match = (
        rf"`log_dir` '.*' is being written by process {process.pid} on \S+ since 20\S+ \S+: choose another"
    )
    with pytest.raises(ValueError, match=match):
        FolderLock(folder)
    process.kill()
    process.communicate()
    lock = FolderLock(folder)
    lock.release()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("text", ["text", "[]", '{"host": "a"}', '{"host": 1, "process": "b", "since": 2}'])
def test_a_file_that_says_something_else(folder, text):
    lock = FolderLock(folder)
    with open(lock._path, "w") as file:
        file.write(text)
    with pytest.raises(ValueError, match="`log_dir` '.*' is being written by another process: choose"):
        FolderLock(folder)
    lock.release()


def test_a_process_that_outlives_the_one_that_died(folder):
    """It inherited the lock when it was forked."""
    process = holder(folder, "TensorBoard", "fork")
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    try:
        lock = FolderLock(folder)
        with pytest.raises(ValueError, match="of this process"):
            FolderLock(folder)
        lock.release()
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_where_there_are_no_locks(folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    FolderLock(folder).release()
    FolderLock("ram://somewhere").release()
