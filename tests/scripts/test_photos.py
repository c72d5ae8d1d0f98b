"""Photos in three parts: every source, and every way in which a source can be bad."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import image_files
import photos
from datasets import DataError
from photos import Photos

RNG = np.random.default_rng(2)
PARTS = ("train", "validation", "test")


def check_form(data: Photos, side: int, *counts: int) -> None:
    for part, count in zip(PARTS, counts, strict=True):
        x, y = getattr(data, part)
        assert x.dtype == np.uint8 and x.shape == (count, side, side, 3)
        assert y.dtype == np.int64 and y.shape == (count,)
        assert set(y) == set(range(len(data.class_names)))


def bicubic(x: Any, side: int) -> Any:
    """TensorFlow's own resizing, which the pixels are compared with."""
    resized = tf.image.resize(np.asarray(x, "float32"), (side, side), "bicubic", antialias=True)
    return np.clip(resized.numpy(), 0, 255)


# Folders


def write(root: Path, classes: dict[str, int]) -> Path:
    """Images, all different: the first is of grey 0, the next of grey 1, ..."""
    grey = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("RGB", (5, 4), (grey, grey, 200)).save(root / name / f"{index:02}.png")
            grey += 1
    return root


def greys(part: photos.Part) -> list[int]:
    return sorted(part[0][:, 0, 0, 0].tolist())


def test_folder_without_parts_gets_a_fifth_of_every_class_held_out_twice(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 10, "dog": 21, "bird": 3})
    data = photos.load(str(tmp_path), 6)
    assert data.name == str(tmp_path) and data.class_names == ("bird", "cat", "dog")
    check_form(data, 6, 20, 7, 7)
    for part in PARTS:
        x, y = getattr(data, part)
        # Sorted by name: bird is class 0 and has the greys from 31 on.
        label = np.select([x[:, 0, 0, 0] >= 31, x[:, 0, 0, 0] >= 10], [0, 2], 1)
        np.testing.assert_array_equal(y, label)
    assert np.bincount(data.test[1]).tolist() == np.bincount(data.validation[1]).tolist() == [1, 2, 4]
    everything = greys(data.train) + greys(data.validation) + greys(data.test)
    assert sorted(everything) == list(range(34))
    again = photos.load(str(tmp_path), 6)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(again, part)[0], getattr(data, part)[0])


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Train", "val", "test"), ("train", "valid", "TEST")]
)
def test_folder_with_all_parts(names: tuple[str, ...], tmp_path: Path) -> None:
    for name, count in zip(names, (3, 1, 2), strict=True):
        write(tmp_path / name, {"cat": count, "dog": count})
    (tmp_path / ".cache").mkdir()
    data = photos.load(str(tmp_path), 4)
    check_form(data, 4, 6, 2, 4)
    assert data.class_names == ("cat", "dog")
    assert greys(data.test) == [0, 1, 2, 3] and data.test[1].tolist() == [0, 0, 1, 1]


def test_folder_with_some_parts(tmp_path: Path) -> None:
    write(tmp_path / "train", {"cat": 10, "dog": 5})
    write(tmp_path / "test", {"cat": 1, "dog": 1})
    data = photos.load(str(tmp_path), 4)
    check_form(data, 4, 12, 3, 2)
    assert sorted(greys(data.train) + greys(data.validation)) == list(range(15))


def test_a_class_may_be_called_like_a_part(tmp_path: Path) -> None:
    write(tmp_path, {"test": 5, "train": 5, "plane": 5})
    (tmp_path / "test" / ".thumbnails").mkdir()
    assert photos.load(str(tmp_path), 4).class_names == ("plane", "test", "train")


def test_folder_reads_as_image_files_does(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    scene = RNG.integers(0, 256, (30, 40, 4), "uint8")
    for name in ("00", "01", "02"):
        Image.fromarray(scene).save(tmp_path / "cat" / f"{name}.png")
    data = photos.load(str(tmp_path), 9)
    wanted = image_files.read(tmp_path / "cat" / "00.png", 9, 9, 3)
    for part in PARTS:
        x, y = getattr(data, part)
        np.testing.assert_array_equal(x[y == 0], wanted[None])


def test_parts_of_other_classes(tmp_path: Path) -> None:
    write(tmp_path / "train", {"cat": 3, "dog": 3})
    write(tmp_path / "val", {"cat": 3, "dog": 3, "fox": 1})
    with pytest.raises(DataError, match=r"val: has the class fox, which .*train lacks; give every part"):
        photos.load(str(tmp_path), 4)
    write(tmp_path / "train", {"fox": 3, "goat": 1})
    with pytest.raises(DataError, match=r"train: has the class goat, which .*val lacks"):
        photos.load(str(tmp_path), 4)


def test_parts_that_are_not_clear(tmp_path: Path) -> None:
    write(tmp_path / "test", {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match="has test but no train; add a sub-folder train"):
        photos.load(str(tmp_path), 4)
    write(tmp_path / "train", {"cat": 3, "dog": 3})
    write(tmp_path / "val", {"cat": 3, "dog": 3})
    write(tmp_path / "validation", {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match="has val and validation, both the validation part; keep one"):
        photos.load(str(tmp_path), 4)
    (tmp_path / "extra").mkdir()
    with pytest.raises(DataError, match="extra: is neither train, validation nor test, beside test"):
        photos.load(str(tmp_path), 4)


@pytest.mark.parametrize(("count", "need"), [(1, "three"), (2, "three")])
def test_folder_with_too_few_of_a_class(count: int, need: str, tmp_path: Path) -> None:
    write(tmp_path, {"cat": 9, "dog": count})
    with pytest.raises(DataError, match=f"class dog has {count} images?; give it {need} or more"):
        photos.load(str(tmp_path), 4)


def test_folder_with_a_bad_file(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "dog" / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"x\.png: cannot be read as an image"):
        photos.load(str(tmp_path), 4)


def test_no_such_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder; --data takes a FOLDER"):
        photos.load(str(tmp_path / "nowhere"), 4)


# Files


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


def test_file_with_all_parts(tmp_path: Path) -> None:
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


def test_file_with_one_part_gets_the_others_held_out(tmp_path: Path) -> None:
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
    ({"x_test": GREY + 9, "x_train": np.zeros((30, 9, 9)), "y_test": np.arange(6) % 2},
     r"x_test has pixels up to 9, where x_train runs from 0 to 1"),
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


# TensorFlow Datasets


class Kind:
    """A feature: an image, or a label of so many classes."""

    def __init__(self, names: list[str] | None = None) -> None:
        self.names, self.num_classes = names, 2


class ImageKind(Kind):
    pass


class LabelKind(Kind):
    pass


class FakeBuilder:
    """What `photos` uses of ``tensorflow_datasets.core.DatasetBuilder``."""

    def __init__(self, splits: dict[str, tuple[Any, Any]], features: dict[str, Kind], keys: Any) -> None:
        self.splits, self.prepared = splits, False
        self.features, self.keys = features, keys

    @property
    def info(self) -> SimpleNamespace:
        splits = self.splits if self.prepared else {}  # known after the preparation alone
        return SimpleNamespace(supervised_keys=self.keys, features=self.features, splits=splits)

    def download_and_prepare(self) -> None:
        self.prepared = True

    def as_dataset(self, split: str, as_supervised: bool) -> Iterator[Any]:
        assert self.prepared and as_supervised
        return iter(zip(*self.splits[split], strict=True))


def fake(
    monkeypatch: pytest.MonkeyPatch,
    splits: dict[str, tuple[Any, Any]],
    label: Kind | None = None,
    keys: Any = ("image", "label"),
) -> list[str]:
    """Puts a stand-in for tensorflow_datasets in place; gives the names that were asked for."""
    asked: list[str] = []
    features = {"image": ImageKind(), "label": label or LabelKind(["cat", "dog"])}

    def builder(name: str) -> FakeBuilder:
        asked.append(name)
        return FakeBuilder(splits, features, keys)

    module: Any = ModuleType("tensorflow_datasets")
    module.builder = builder
    module.as_numpy = iter
    module.features = SimpleNamespace(Image=ImageKind, ClassLabel=LabelKind)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return asked


def rows(count: int, channels: int = 3) -> tuple[list[Any], list[int]]:
    """Images of different sizes, as data sets of photographs have them."""
    images = [RNG.integers(0, 256, (9 + n % 4, 8, channels), "uint8") for n in range(count)]
    return images, [n % 2 for n in range(count)]


@pytest.mark.parametrize("channels", [1, 3])
def test_tfds(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake module, since tensorflow_datasets is not installed with the tests."""
    train, test = rows(20, channels), rows(6, channels)
    asked = fake(monkeypatch, {"train": train, "test": test, "unlabelled": ([], [])})
    data = photos.load("tfds:pets", 8)
    assert asked == ["pets"] and data.name == "tfds:pets" and data.class_names == ("cat", "dog")
    check_form(data, 8, 16, 4, 6)
    wanted = [image_files.resized(np.repeat(x, 3 // channels, axis=-1), 8, 8) for x in test[0]]
    np.testing.assert_array_equal(data.test[0], wanted)
    np.testing.assert_array_equal(data.test[1], test[1])
    again = photos.load("tfds:pets", 8)
    np.testing.assert_array_equal(again.validation[0], data.validation[0])


def test_tfds_configuration_and_all_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake module, since tensorflow_datasets is not installed with the tests."""
    splits = {"train": rows(4), "validation": rows(2), "test": rows(2)}
    asked = fake(monkeypatch, splits, LabelKind())
    data = photos.load("tfds:imagenette:160px", 8)
    assert asked == ["imagenette/160px"] and data.class_names == ("0", "1")
    check_form(data, 8, 4, 2, 2)


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"train": rows(9)}, {"keys": None}, "holds no images with one label each"),
    ({"train": rows(9)}, {"keys": ("image", "label", "label")}, "holds no images with one label each"),
    ({"train": rows(9)}, {"label": ImageKind()}, "holds no images with one label each"),
    ({"all": rows(9)}, {}, "has no split train, only all; take another"),
    ({"train": ([], [])}, {}, "has a split without images"),
    ({"train": ([np.zeros((4, 4, 3), "uint16")], [0])}, {}, r"has images of uint16, shape \(4, 4, 3\)"),
    ({"train": ([np.zeros((4, 4, 4), "uint8")], [0])}, {}, r"has images of uint8, shape \(4, 4, 4\)"),
    ({"train": rows(9), "test": (rows(1)[0], [-1])}, {}, "test has the negative label -1"),
    ({"train": rows(4)}, {}, "class cat has 2 images; give it three or more"),
]


@pytest.mark.parametrize(("splits", "options", "message"), WRONG)
def test_tfds_of_no_use(
    splits: dict[str, Any], options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a fake module, since tensorflow_datasets is not installed with the tests."""
    fake(monkeypatch, splits, **options)
    with pytest.raises(DataError, match=f"^tfds:pets: {message}"):
        photos.load("tfds:pets", 8)


@pytest.mark.parametrize("error", [ValueError, ConnectionError, AssertionError])
def test_tfds_that_does_not_load(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake module, since tensorflow_datasets is not installed with the tests."""
    fake(monkeypatch, {})

    def builder(name: str) -> None:
        raise error("no\n route")

    monkeypatch.setattr(sys.modules["tensorflow_datasets"], "builder", builder)
    with pytest.raises(DataError, match=r"^tfds:pets: TensorFlow Datasets cannot load it \(no route\)"):
        photos.load("tfds:pets", 8)


def test_tfds_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r'_datasets does not import.*pip install "gradloop\[tfds\]"'):
        photos.load("tfds:cifar10", 8)
