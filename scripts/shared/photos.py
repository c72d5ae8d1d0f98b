"""Colour images for transfer learning, from a folder, a file or TensorFlow Datasets, in three parts.

`load` gives square RGB images of one size as bytes. What has no test or validation part gets a fifth of
every class set apart, always the same one. Whatever is wrong with the data is a `DataError` that names
the file or folder, what was found and the way out.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import array_files, image_files
from .array_files import Array, DataError, one_line

# Names that sub-folders and splits may have, by part.
PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
KEYS = {"train": "train", "validation": "val", "test": "test"}  # files name it x_val
SHAPES = "(n, height, width), (n, height, width, 1) or (n, height, width, 3)"

Part: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Photos:
    """Labelled colour images, split in three.

    Each part is uint8 images (n, side, side, 3), RGB, and int64 labels (n,), indices of ``class_names``.
    """

    name: str
    class_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part


def load(spec: str, side: int) -> Photos:
    """Loads images with labels and resizes them to ``side`` x ``side``, antialiased.

    Args:
      spec: A folder with one sub-folder of images per class; a folder with ``train`` and perhaps
        ``validation`` and ``test`` sub-folders of that kind; an ``.npz`` file with ``x_train``,
        ``y_train`` and perhaps ``x_val``, ``y_val``, ``x_test``, ``y_test``, ``class_names``; or
        ``tfds:NAME[:CONFIG]``, a data set of TensorFlow Datasets.
      side: Height and width wanted.
    """
    if spec.startswith("tfds:"):
        return _tfds(spec, side)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(path, side)
    if path.is_file():
        return _file(path, side)
    raise DataError(
        f"{spec}: no such file or folder; --data takes a FOLDER with one sub-folder of images per "
        "class, FILE.npz, or tfds:NAME for a data set of TensorFlow Datasets"
    )


def _folder(path: Path, side: int) -> Photos:
    folders = _part_folders(path)
    listed = {part: image_files.class_folders(folder) for part, folder in folders.items()}
    class_names = [name for name, _ in listed["train"]]
    for part, classes in listed.items():
        odd = sorted({name for name, _ in classes} ^ set(class_names))
        if odd:
            has, lacks = ("train", part) if odd[0] in class_names else (part, "train")
            raise DataError(
                f"{folders[has]}: has the class {odd[0]}, which {folders[lacks]} lacks; give every part "
                "the same classes"
            )
    files: dict[str, Array] = {}
    labels: dict[str, Array] = {}
    for part, classes in listed.items():
        pairs = [(file, label) for label, (_, each) in enumerate(classes) for file in each]
        files[part] = np.array([file for file, _ in pairs], object)
        labels[part] = np.array([label for _, label in pairs], np.int64)
    pixels = [
        _stacked((image_files.read(file, side, side, 3) for file in chosen), y, side)
        for chosen, y in _three_parts(str(path), files, labels, class_names).values()
    ]
    return Photos(str(path), tuple(class_names), *pixels)


def _part_folders(path: Path) -> dict[str, Path]:
    """The folder of each part if ``path`` is split into parts, else ``path`` as the training part."""
    inside = [p for p in image_files.entries(path) if p.is_dir()]
    part_of = {name: part for part, names in PARTS.items() for name in names}
    # A class may be called `test`; a part's folder holds folders.
    named = [folder for folder in inside if folder.name.lower() in part_of]
    split = [folder for folder in named if any(p.is_dir() for p in image_files.entries(folder))]
    if not split:
        return {"train": path}
    found: dict[str, Path] = {}
    for folder in inside:
        part = part_of.get(folder.name.lower())
        if part is None:
            raise DataError(
                f"{folder}: is neither train, validation nor test, beside {split[0].name}, which is "
                "one; move it elsewhere"
            )
        if part in found:
            raise DataError(
                f"{path}: has {found[part].name} and {folder.name}, both the {part} part; keep one"
            )
        found[part] = folder
    if "train" not in found:
        raise DataError(f"{path}: has {split[0].name} but no train; add a sub-folder train")
    return {part: found[part] for part in PARTS if part in found}


def _file(path: Path, side: int) -> Photos:
    keys = {part: (f"x_{key}", f"y_{key}") for part, key in KEYS.items()}
    optional = [*keys["validation"], *keys["test"], "class_names"]
    arrays = array_files.read(path, keys["train"], optional)
    for pair in keys.values():
        present = [key for key in pair if key in arrays]
        if len(present) == 1:
            (absent,) = set(pair) - set(present)
            raise DataError(f"{path}: has {present[0]} without {absent}; give both or neither")
    parts = [part for part, (key, _) in keys.items() if key in arrays]
    x = {part: arrays[keys[part][0]] for part in parts}
    y = {part: arrays[keys[part][1]] for part in parts}
    for part in parts:
        where = f"{path}: {keys[part][0]}"
        array_files.check_near_shapes(where, x[part])
        fits = x[part].ndim == 3 or (x[part].ndim == 4 and x[part].shape[-1] in (1, 3))
        array_files.check_images(where, x[part], fits, SHAPES)
        array_files.check_labels(f"{path}: {keys[part][1]}", y[part], len(x[part]))
    classes = array_files.count_classes(str(path), {keys[part][1]: y[part] for part in parts})
    class_names = array_files.class_names(path, arrays.get("class_names"), classes)
    white = array_files.value_of_white(str(path), {keys[part][0]: x[part] for part in parts})
    rows: dict[str, Array] = {part: np.arange(len(y[part])) for part in parts}
    split = _three_parts(str(path), rows, y, class_names)

    pixels = []
    for part, (chosen, labels) in split.items():
        images = (_coloured(x.get(part, x["train"])[row], white, side) for row in chosen)
        pixels.append(_stacked(images, labels, side))
    return Photos(str(path), tuple(class_names), *pixels)


def _coloured(image: Array, white: float, side: int) -> NDArray[np.uint8]:
    """An image (h, w[, 1 or 3]) of any numbers up to ``white`` as square RGB bytes."""
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.dtype != np.uint8:
        image = np.rint(image.astype(np.float32) * np.float32(255 / white)).clip(0, 255)
    image = image_files.resized(image.astype(np.uint8, copy=False), side, side)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)


def _tfds(spec: str, side: int) -> Photos:
    name = spec.removeprefix("tfds:").replace(":", "/", 1)
    try:
        tfds = importlib.import_module("tensorflow_datasets")
    except Exception as error:  # It breaks on a wrong protobuf with other errors than ImportError.
        raise DataError(
            f"{spec}: the package tensorflow_datasets does not import here ({one_line(error)}); "
            'install it: pip install "gradloop[tfds]"'
        ) from error
    try:
        builder = tfds.builder(name)
        info = builder.info
        kinds = [info.features[key] for key in info.supervised_keys or ()]
        wanted = (tfds.features.Image, tfds.features.ClassLabel)
        if len(kinds) != 2 or not all(map(isinstance, kinds, wanted)):
            raise DataError(
                f"{spec}: holds no images with one label each; choose a supervised data set for the "
                "classification of images"
            )
        builder.download_and_prepare()
        splits = _splits(spec, list(builder.info.splits))  # known only now
        images: dict[str, Array] = {}
        labels: dict[str, Array] = {}
        for part, split in splits.items():
            rows = tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True))
            images[part], labels[part] = _read_all(spec, rows, side)
            array_files.check_labels(f"{spec}: {split}", labels[part], len(images[part]))
        class_names = list(kinds[1].names or map(str, range(kinds[1].num_classes)))
    except DataError:
        raise
    except Exception as error:  # Unknown names, no network, checksums: it raises whatever it met.
        raise DataError(
            f"{spec}: TensorFlow Datasets cannot load it ({one_line(error)}); check the name and the "
            "network, or give a FOLDER or FILE.npz"
        ) from error
    parts = _three_parts(spec, images, labels, class_names)
    return Photos(spec, tuple(class_names), *parts.values())


def _splits(spec: str, names: list[str]) -> dict[str, str]:
    found = {part: name for part, known in PARTS.items() for name in names if name in known}
    if "train" not in found:
        raise DataError(f"{spec}: has no split train, only {', '.join(names) or 'none'}; take another")
    return found


def _read_all(spec: str, rows: Iterable[tuple[Array, int]], side: int) -> Part:
    images, labels = [], []
    for image, label in rows:
        fits = image.ndim == 3 and image.shape[-1] in (1, 3)
        if image.dtype != np.uint8 or not fits:
            raise DataError(
                f"{spec}: has images of {image.dtype}, shape {image.shape}; wanted bytes of shape "
                "(height, width, 1 or 3): convert them to a FOLDER or FILE.npz"
            )
        images.append(_coloured(image, 255, side))
        labels.append(label)
    if not images:
        raise DataError(f"{spec}: has a split without images; take another data set")
    return np.stack(images), np.array(labels, np.int64)


def _three_parts(
    name: str, rows: Mapping[str, Array], labels: Mapping[str, Array], class_names: list[str]
) -> dict[str, tuple[Array, NDArray[np.int64]]]:
    """``rows`` and labels of all three parts, those that are missing taken out of the training part."""
    missing = [part for part in ("test", "validation") if part not in rows]
    y = labels["train"]
    part_of = array_files.hold_out(name, y, class_names, missing)
    result = {part: (rows[part], labels[part].astype(np.int64)) for part in rows}
    for number, part in enumerate(["train", *missing]):
        result[part] = (rows["train"][part_of == number], y[part_of == number].astype(np.int64))
    return {part: result[part] for part in PARTS}


def _stacked(images: Iterable[NDArray[np.uint8]], labels: NDArray[np.int64], side: int) -> Part:
    """Copies images one by one into one array, so that memory holds no second copy of all."""
    x = np.empty((len(labels), side, side, 3), np.uint8)
    for row, image in zip(x, images, strict=True):
        row[...] = image
    return x, labels
