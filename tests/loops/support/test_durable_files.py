"""Files that are on the disk before others say that they are there."""

import errno
import hashlib
import os

import pytest
import tensorflow as tf

from gradloop.loops.support.durable_files import (
    content_of,
    start_sync_and_hash,
    sync,
    temporary_name,
    write_atomically,
)

LONG = bytes(range(256)) * 5000  # more than one block


@pytest.fixture
def calls(monkeypatch):
    """What reaches the disk, in order."""
    seen, sync, replace = [], os.fsync, os.replace

    def note(descriptor):
        seen.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def note_rename(before, after):
        seen.append(("rename", os.path.basename(after)))
        replace(before, after)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", note_rename)
    return seen


def test_size_and_digest(tmp_path, calls):
    path = tmp_path / "a"
    path.write_bytes(LONG)
    wanted = {"bytes": len(LONG), "sha256": hashlib.sha256(LONG).hexdigest()}
    assert content_of(str(path)) == wanted and calls == []
    assert start_sync_and_hash(str(path)).result() == wanted and calls == [("sync", "a")]
    remote = f"ram://durable-{os.getpid()}"
    with tf.io.gfile.GFile(remote, "wb") as file:
        file.write(LONG)
    assert start_sync_and_hash(remote).result() == wanted and calls == [("sync", "a")]


def test_a_text_is_on_the_disk_before_it_has_its_name(tmp_path, calls):
    path = str(tmp_path / "text")
    write_atomically(path, "whole")
    assert (tmp_path / "text").read_text() == "whole" and os.listdir(tmp_path) == ["text"]
    folder = ("sync", tmp_path.name)
    assert calls == [("sync", "text.part"), folder, ("rename", "text"), folder]


def test_a_text_on_another_file_system(calls):
    path = f"ram://texts-{os.getpid()}/text"
    write_atomically(path, "whole")
    sync(os.path.dirname(path))
    with tf.io.gfile.GFile(path) as file:
        assert file.read() == "whole"
    assert not tf.io.gfile.exists(temporary_name(path)) and calls == []


def test_a_disk_that_fails_and_one_that_cannot_sync(tmp_path, monkeypatch):
    def fail(number):
        def raises(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", raises)

    path = tmp_path / "a"
    path.write_bytes(LONG)
    fail(errno.EIO)
    for call in (lambda: start_sync_and_hash(str(path)).result(), lambda: write_atomically(str(path), "")):
        with pytest.raises(OSError, match="Input/output error"):
            call()
    assert path.read_bytes() == LONG
    fail(errno.EINVAL)
    assert start_sync_and_hash(str(path)).result()["bytes"] == len(LONG)
