"""Photos from TensorFlow Datasets, with a stand-in for it, since it is not installed with the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shared import image_files, photos
from shared.digit_images import DataError

RNG = np.random.default_rng(2)


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
def test_tfds(channels: int, monkeypatch: pytest.MonkeyPatch, check_form: Callable[..., None]) -> None:
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


def test_tfds_configuration_and_all_splits(
    monkeypatch: pytest.MonkeyPatch, check_form: Callable[..., None]
) -> None:
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
    fake(monkeypatch, splits, **options)
    with pytest.raises(DataError, match=f"^tfds:pets: {message}"):
        photos.load("tfds:pets", 8)


@pytest.mark.parametrize("error", [ValueError, ConnectionError, AssertionError])
def test_tfds_that_does_not_load(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
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
