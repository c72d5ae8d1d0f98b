"""Features in files: whole or not there, no larger than the disk."""

import json
import os
import shutil

import numpy as np
import pytest

from gradloop.models.feature_cache.files import FeatureFiles

X = np.ones((5, 4), "float32")


def test_written_and_read(tmp_path):
    files = FeatureFiles(tmp_path / "new" / "folder")
    assert (files.exists, files.key) == (False, None)
    one, other = np.arange(6.0).reshape(3, 2), np.arange(3, dtype="float16")
    with files.writing("abc", 3, [one[:1], other[:1]]) as write:
        write([one[:2], other[:2]])
        write([one[2:], other[2:]])
        assert (files.exists, files.key) == (True, None)
    assert (files.exists, files.key) == (True, "abc")
    for read, sample, expected in zip(files.read(), files.sample(), (one, other), strict=True):
        assert isinstance(read, np.memmap) and not isinstance(sample, np.memmap)
        assert read.dtype == sample.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(sample, expected[:1])


def test_what_was_not_finished_has_no_key(tmp_path):
    files = FeatureFiles(tmp_path)
    with files.writing("abc", 1, [X]) as write:
        write([X[:1]])
    with pytest.raises(KeyboardInterrupt), files.writing("abc", 5, [X]):
        raise KeyboardInterrupt
    assert files.exists and files.key is None
    (tmp_path / "cache.json").write_text("{")
    assert files.key is None


@pytest.mark.parametrize("gone", ["features-1.npy", "sample-0.npy", "sample-1.npy"])
def test_a_file_that_is_gone(tmp_path, gone):
    files = FeatureFiles(tmp_path)
    with files.writing("abc", 5, [X[:1], X[:1]]) as write:
        write([X, X])
    assert files.key == "abc"
    (tmp_path / gone).unlink()
    assert files.exists and files.key is None


@pytest.mark.parametrize("name", ["features-0.npy", "features-1.npy", "sample-0.npy", "sample-1.npy"])
def test_a_file_of_another_size(tmp_path, name):
    files = FeatureFiles(tmp_path)
    with files.writing("abc", 5, [X[:1], X[:1]]) as write:
        write([X, X])
    size = (tmp_path / name).stat().st_size
    for other in (size - 1, 0, size + 1):
        os.truncate(tmp_path / name, other)
        assert files.exists and files.key is None
    os.truncate(tmp_path / name, size)
    assert files.key == "abc"


@pytest.mark.parametrize("sizes", [None, 5, [], {}])
def test_an_index_without_sizes(tmp_path, sizes):
    files = FeatureFiles(tmp_path)
    with files.writing("abc", 5, [X[:1]]) as write:
        write([X])
    index = json.loads((tmp_path / "cache.json").read_text())
    (tmp_path / "cache.json").write_text(json.dumps({**index, "sizes": sizes}))
    assert files.exists and files.key is None


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000_000))
    files = FeatureFiles(tmp_path)
    with pytest.raises(OSError, match=r"take 16.00 GB, and the disk has 0.02 GB free"):
        with files.writing("abc", 10**9, [X]):
            pass
    assert not files.exists
