"""Photos from files of arrays, and every way in which files can be bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from shared import image_files, photos
from shared.digit_images import DataError

RNG = np.random.default_rng(2)
PARTS = ("train", "validation", "test")


def bicubic(x: Any, side: int) -> Any:
    """TensorFlow's own resizing, which the pixels are compared with."""
    resized = tf.image.resize(np.asarray(x, "float32"), (side, side), "bicubic", antialias=True)
    return np.clip(resized.numpy(), 0, 255)


def arrays(count: int = 30, **changes: Any) -> dict[str, Any]:
    """Smooth images of middling values, so that two good resizings agree, in two classes."""
    coarse = RNG.integers(60, 200, (count, 4, 5, 3), "uint8")
    x = np.stack([image_files.resized(image, 16, 20) for image in coarse])
    return {"x_train": x, "y_train": np.arange(count) % 2, **changes}


def saved(path: Path, content: dict[str, Any]) -> str:
    np.savez(path / "data.npz", **content)
    return str(path / "data.npz")


def all_parts() -> dict[str, Any]:
    content = arrays()
    for part, count in (("val", 8), ("test", 6)):
        more = arrays(count)
        content |= {f"x_{part}": more["x_train"], f"y_{part}": more["y_train"]}
    return content


def test_file_with_all_parts(tmp_path: Path, check_form: Callable[..., None]) -> None:
    content = all_parts() | {"class_names": np.array(["cat", "dog"])}
    data = photos.load(saved(tmp_path, content), 12)
    check_form(data, 12, 30, 8, 6)
    assert data.class_names == ("cat", "dog")
    for part, key in zip(PARTS, ("train", "val", "test"), strict=True):
        x, y = getattr(data, part)
        np.testing.assert_array_equal(y, content[f"y_{key}"])
        np.testing.assert_allclose(x, bicubic(content[f"x_{key}"], 12), atol=1.6)
    # Nothing is resized that has its size already.
    square = {**content, "x_val": content["x_val"][:, :, :16]}
    data = photos.load(saved(tmp_path, square), 16)
    np.testing.assert_array_equal(data.validation[0], square["x_val"])


def test_file_with_one_part_gets_the_others_held_out(tmp_path: Path, check_form: Callable[..., None]) -> None:
    content = arrays()
    data = photos.load(saved(tmp_path, content), 16)
    check_form(data, 16, 18, 6, 6)
    assert data.class_names == ("0", "1")
    wanted = [image_files.resized(image, 16, 16).tobytes() for image in content["x_train"]]
    got = [image.tobytes() for part in PARTS for image in getattr(data, part)[0]]
    assert sorted(got) == sorted(wanted)
    labels = dict(zip(wanted, content["y_train"], strict=True))
    for part in PARTS:
        x, y = getattr(data, part)
        assert [labels[image.tobytes()] for image in x] == y.tolist()


@pytest.mark.parametrize("side", [16, 10])
@pytest.mark.parametrize("form", ["uint16", "float32", "float64", "float16 to 1", "float64 to 1"])
def test_file_in_every_form_is_the_same_data(form: str, side: int, tmp_path: Path) -> None:
    content = all_parts()
    plain = photos.load(saved(tmp_path, content), side)
    dtype, _, to_one = form.partition(" ")
    for key in ("x_train", "x_val", "x_test"):
        content[key] = (content[key] / 255 if to_one else content[key]).astype(dtype)
    other = photos.load(saved(tmp_path, content), side)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(other, part)[0], getattr(plain, part)[0])


@pytest.mark.parametrize("axis", [True, False])
def test_grey_becomes_three_equal_channels(axis: bool, tmp_path: Path) -> None:
    content = arrays()
    grey = content["x_train"][..., :1]
    colour = photos.load(saved(tmp_path, {**content, "x_train": np.repeat(grey, 3, axis=-1)}), 9)
    shaped = grey if axis else grey[..., 0]
    data = photos.load(saved(tmp_path, {**content, "x_train": shaped}), 9)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(data, part)[0], getattr(colour, part)[0])


GREY = np.zeros((6, 9, 9), "uint8")
BAD: list[tuple[dict[str, Any], str]] = [
    ({"x_val": GREY}, r"has x_val without y_val; give both or neither"),
    ({"y_test": np.zeros(6, int)}, r"has y_test without x_test; give both or neither"),
    ({"x_train": np.zeros((9, 9, 3))}, r"x_train has shape \(9, 9, 3\); one image, it seems: .*x\[None\]"),
    ({"x_train": np.zeros((9, 9, 9, 4))}, r"x_train has shape .*; the fourth channel is transparency"),
    ({"x_train": np.zeros((9, 3, 9, 9))}, r"x_train has shape .*; channels come last.*np\.moveaxis"),
    ({"x_train": np.zeros((9, 9, 9, 2))}, r"x_train has shape \(9, 9, 9, 2\); wanted \(n, height, width\)"),
    ({"x_train": np.zeros((9, 81))}, r"x_train has shape \(9, 81\); wanted \(n, height, width\)"),
    ({"x_train": np.full((30, 9, 9), -1)}, r"x_train has pixels down to -1"),
    ({"x_train": np.full((30, 9, 9), 256)}, r"x_train has pixels up to 256, .* from 0 to 255"),
    ({"x_train": np.full((30, 9, 9), np.nan)}, r"x_train has NaN or infinite pixels"),
    ({"x_train": np.full((30, 9, 9), "a")}, r"x_train has dtype <U1"),
    ({"x_train": np.zeros((0, 9, 9))}, r"x_train is empty"),
    ({"x_test": GREY + 0.5, "x_train": np.zeros((30, 9, 9)), "y_test": np.arange(6) % 2}, ""),
    (
        {"x_test": GREY + 9, "x_train": np.zeros((30, 9, 9)), "y_test": np.arange(6) % 2},
        r"x_test has pixels up to 9, where x_train runs from 0 to 1",
    ),
    ({"y_train": np.eye(2)[np.arange(30) % 2]}, r"y_train .* one-hot"),
    ({"y_train": np.zeros(30, int)}, r"y_train has labels up to 0, which makes 1 classes"),
    ({"y_train": np.arange(30) // 10 * 2}, r"class 1 has 0 images; give it three or more"),
    ({"y_train": np.arange(30) // 28}, r"class 1 has 2 images; give it three or more"),
    ({"x_val": GREY, "y_val": np.arange(6)}, r"y_val has label 5, but y_train stops at 1; .* val examples"),
    ({"class_names": np.array(["cat"])}, r"class_names has 1 names, but y_train has labels up to 1"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_files(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = saved(tmp_path, arrays(**changes))
    if not message:  # the neighbour of the next one, which is right
        assert photos.load(path, 4).test[0].max() == 128
        return
    with pytest.raises(DataError, match=r"data\.npz: " + message):
        photos.load(path, 4)


def test_a_class_without_training_images_is_refused_when_nothing_is_held_out(tmp_path: Path) -> None:
    content = all_parts() | {"y_train": np.arange(30) // 10 * 2}
    with pytest.raises(DataError, match=r"class 1 has 0 images; give it one or more$"):
        photos.load(saved(tmp_path, content), 4)


def test_file_lacks_arrays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.npz: lacks y_train; it has x_train; name the arrays"):
        photos.load(saved(tmp_path, {"x_train": GREY}), 4)
