"""Features in files: whole or not there, of the right data, no larger than the disk."""

import shutil

import keras
import numpy as np
import pytest

from gradloop.models.feature_files import FeatureFiles, fingerprint

L = keras.layers


def front(units=3, **options):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), L.Dense(units, **options), L.ReLU()])


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
    for read, expected in zip(files.read(), (one, other), strict=True):
        assert isinstance(read, np.memmap) and read.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected)


def test_what_was_not_finished_has_no_key(tmp_path):
    files = FeatureFiles(tmp_path)
    with files.writing("abc", 1, [X]) as write:
        write([X[:1]])
    with pytest.raises(KeyboardInterrupt), files.writing("abc", 5, [X]):
        raise KeyboardInterrupt
    assert files.exists and files.key is None
    (tmp_path / "cache.json").write_text("{")
    assert files.key is None


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000_000))
    files = FeatureFiles(tmp_path)
    with pytest.raises(OSError, match=r"take 16.00 GB, and the disk has 0.02 GB free"):
        with files.writing("abc", 10**9, [X]):
            pass
    assert not files.exists


def test_a_fingerprint_is_of_layers_weights_data_and_copies():
    key = fingerprint(front(), X, 0)
    # Keras numbers the second model's layers anew.
    assert fingerprint(front(), X.copy(), 0) == key
    changed = front()
    changed.layers[0].bias.assign([0.0, 0.0, 1.0])
    others = [
        fingerprint(front(), X, 2),
        fingerprint(front(), X + 1, 0),
        fingerprint(front(), X.astype("float64"), 0),
        fingerprint(front(), X.reshape(4, 5), 0),
        fingerprint(front(activation="relu"), X, 0),
        fingerprint(changed, X, 0),
    ]
    assert len({key, *others}) == 7


def test_a_fingerprint_is_of_constants_in_the_graph():
    def model(factor):
        x = keras.Input((2,))
        return keras.Model(x, x * factor)

    x = np.ones((3, 2), "float32")
    keys = [fingerprint(model(factor), x, 0) for factor in (2.0, 2.0, 3.0, np.ones(2, "f"), np.zeros(2, "f"))]
    assert keys[0] == keys[1] and len(set(keys)) == 4
