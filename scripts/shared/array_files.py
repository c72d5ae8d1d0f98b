"""Labelled images as NumPy arrays: reads `.npz` files safely, checks and splits them.

Whatever is wrong is a `DataError` that names the file, what was found and the way out.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # of any dtype
HELD_OUT_SHARE = 0.2  # of every class, for each part that the data does not come with
AT_LEAST = ("one", "two", "three")  # images of a class, by the number of parts taken out of it


class DataError(ValueError):
    """The data cannot be used as it is; the message says why and what to do."""


def one_line(error: object, length: int = 120) -> str:
    """The text of an error on one line, cut to ``length`` characters."""
    return " ".join(str(error).split())[:length]


def read(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Array]:
    """The arrays of these names in an ``.npz`` file, those of the optional that are there."""
    try:
        with path.open("rb") as stream:  # NumPy leaves a file open that it cannot read
            archive = np.load(stream, allow_pickle=False)
            _check_keys(path, archive, required)
            wanted = [key for key in (*required, *optional) if key in archive.files]
            # A member that is no array comes as bytes, which the checks of the dtype then refuse.
            return {key: np.asarray(archive[key]) for key in wanted}
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(
            f"{path}: does not fit into memory ({one_line(error)}); give fewer or smaller images"
        ) from error
    except Exception as error:  # A damaged file makes zipfile, zlib or NumPy fail in any way there is.
        if "allow_pickle=False" in str(error) and zipfile.is_zipfile(path):
            raise DataError(
                f"{path}: holds pickled Python objects, which are never loaded since they can run "
                'any code; save plain numeric arrays: array.astype("uint8")'
            ) from error
        # For other files NumPy explains how to load them unsafely, which is left out.
        reason = "" if "allow_pickle" in str(error) else f" ({one_line(error)})"
        raise DataError(
            f"{path}: is not a whole .npz file, perhaps truncated or of another kind"
            f"{reason}; copy it again or write it with np.savez"
        ) from error


def _check_keys(path: Path, archive: Array | np.lib.npyio.NpzFile, required: Sequence[str]) -> None:
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(
            f"{path}: holds one bare array; save all in one file: "
            f"np.savez(path, {', '.join(f'{key}=...' for key in required)})"
        )
    missing = [key for key in required if key not in archive.files]
    if missing:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}; it has "
            f"{', '.join(archive.files) or 'no array at all'}; name the arrays {', '.join(required)}"
        )


def check_images(where: str, x: Array, fits: bool, wanted: str) -> None:
    """Refuses arrays that cannot be pixels; ``fits`` tells whether the shape is one of the ``wanted``."""
    if x.dtype.kind not in "uif":
        raise DataError(f'{where} has dtype {x.dtype}; pixels are numbers: x.astype("uint8")')
    if x.size == 0:
        raise DataError(f"{where} is empty (shape {x.shape}); give at least one image")
    if not fits:
        raise DataError(f"{where} has shape {x.shape}; wanted {wanted}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int(np.argwhere(~np.isfinite(x))[0][0])
        raise DataError(
            f"{where} has NaN or infinite pixels, the first in image {bad}; "
            "leave such images out or use np.nan_to_num(x)"
        )
    if x.min() < 0:
        raise DataError(f"{where} has pixels down to {x.min()}; scale them to 0..255 or to 0..1")


def check_near_shapes(where: str, x: Array) -> None:
    """Refuses shapes that are almost those of grey or RGB images, with a hint how to fix them."""
    if x.ndim == 3 and x.shape[-1] in (1, 3, 4):
        hint = "one image, it seems: give it a first axis, x[None]"
    elif x.ndim == 4 and x.shape[-1] == 4:
        hint = "the fourth channel is transparency, it seems: compose it on white, or x[..., :3]"
    elif x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[-1] not in (1, 3):
        hint = "channels come last here: np.moveaxis(x, 1, -1)"
    else:
        return
    raise DataError(f"{where} has shape {x.shape}; {hint}")


def check_labels(where: str, y: Array, examples: int) -> None:
    """Refuses labels that are not one integer from 0 on for each of the examples."""
    if y.ndim == 2 and y.shape[1] > 1:
        raise DataError(
            f"{where} has shape {y.shape}, which looks one-hot; give one integer an image: "
            "y.argmax(axis=1)"
        )
    if y.ndim != 1:
        raise DataError(f"{where} has shape {y.shape}; wanted (n,): y.reshape(-1)")
    if y.dtype.kind not in "ui":
        raise DataError(f'{where} has dtype {y.dtype}; labels are integers: y.astype("int64")')
    if len(y) != examples:
        raise DataError(f"{where} has {len(y)} labels for {examples} images; give one label an image")
    if y.min() < 0:
        raise DataError(f"{where} has the negative label {y.min()}; number the classes from 0 on")


def count_classes(name: str, labels: Mapping[str, Array]) -> int:
    """The number of classes in the training part of checked labels; refuses other parts that have more."""
    y_train = labels["y_train"]
    classes = int(y_train.max()) + 1
    if classes < 2 or classes > len(y_train):
        raise DataError(
            f"{name}: y_train has labels up to {classes - 1}, which makes {classes} classes of "
            f"{len(y_train)} examples; number two classes or more from 0 on: "
            "np.unique(y, return_inverse=True)[1]"
        )
    for key, y in labels.items():
        if y.max() >= classes:
            raise DataError(
                f"{name}: {key} has label {y.max()}, but y_train stops at {classes - 1}; leave out "
                f"{key[2:]} examples of a class that nothing was learned of"
            )
    return classes


def class_names(path: Path, given: Array | None, classes: int) -> list[str]:
    """The array ``class_names`` of a file as checked names; numbers where there is none."""
    if given is None:
        return [str(label) for label in range(classes)]
    if given.dtype.kind != "U" or given.ndim != 1:
        raise DataError(
            f"{path}: class_names has dtype {given.dtype} and shape {given.shape}; wanted one text a "
            'class: np.array(["cat", "dog"])'
        )
    names = [str(name) for name in given]
    if len(names) != classes:
        raise DataError(
            f"{path}: class_names has {len(names)} names, but y_train has labels up to {classes - 1}; "
            f"name {classes} classes, in the order of the labels"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{path}: class_names has a name twice ({', '.join(names)}); tell them apart")
    return names


def value_of_white(name: str, images: Mapping[str, Array]) -> float:
    """255 or 1: the value of white, by ``x_train`` alone; refuses other parts that go higher.

    One rule for all parts, so that a dark test set is not mistaken for one that is scaled already.
    """
    x_train = images["x_train"]
    white = 255.0 if x_train.dtype.kind != "f" or x_train.max() > 1 else 1.0
    for key, x in images.items():
        if np.float32(x.max()) / np.float32(white) > 1:
            raise DataError(
                f"{name}: {key} has pixels up to {x.max()}, where x_train runs from 0 to {white:g}; "
                "scale both alike, to 0..255 or to 0..1"
            )
    return white


def hold_out(
    name: str, y: Array, class_names: Sequence[str], parts: Sequence[str]
) -> NDArray[np.int64]:
    """Sets a fifth of every class apart for each of ``parts``, always the same one.

    For each example it gives 0 where it stays, as at least one of every class does, else 1 for the first of
    ``parts``, 2 for the second.
    """
    order = np.random.default_rng(0).permutation(len(y))
    part_of = np.zeros(len(y), np.int64)
    for label, class_name in enumerate(class_names):
        members = order[y[order] == label]
        if len(members) <= len(parts):
            noun = "image" if len(members) == 1 else "images"
            held_out = f", since a fifth of every class is held out for the {' and for the '.join(parts)}"
            raise DataError(
                f"{name}: class {class_name} has {len(members)} {noun}; give it "
                f"{AT_LEAST[len(parts)]} or more{held_out if parts else ''}"
            )
        count = max(1, round(HELD_OUT_SHARE * len(members)))
        for part in range(len(parts)):
            part_of[members[part * count : (part + 1) * count]] = part + 1
    return part_of
