"""The data all contenders train on: 28x28 images in ten classes, synthetic or from a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

CLASSES = 10
SIDE = 28


def load(network: str, examples: int, path: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in the layout that the network takes.

    Args:
        network: `"softmax"` (flat images) or `"lenet5"` (images with a channel axis).
        examples: how many synthetic examples to draw; ignored where `path` is given.
        path: an `.npz` file with `x_train` and `y_train`, or None.

    Returns:
        float32 images of shape `[n, 784]` or `[n, 28, 28, 1]`, mostly in 0 to 1, and int64 labels
        of shape `[n]`.
    """
    images, labels = synthetic(examples) if path is None else from_file(path)
    shape = (-1, SIDE * SIDE) if network == "softmax" else (-1, SIDE, SIDE, 1)
    return images.reshape(shape), labels


def synthetic(examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ten fixed random shapes, each pixel flipped with a chance of 5% and of random brightness.

    About as bright as handwritten digits, so the same learning rate trains, and learnable, so a
    contender that does not really train shows.

    Args:
        examples: number of examples.
        seed: the same seed gives the same data on every machine.

    Returns:
        float32 images `[examples, 28, 28]` in 0 to 1 and int64 labels `[examples]`.

    Example:
        >>> images, labels = synthetic(5)
        >>> images.shape, str(images.dtype), str(labels.dtype)
        ((5, 28, 28), 'float32', 'int64')
    """
    rng = np.random.default_rng(seed)
    shapes = rng.random((CLASSES, SIDE, SIDE)) < 0.15
    labels = rng.integers(0, CLASSES, size=examples, dtype=np.int64)
    lit = shapes[labels]
    lit ^= rng.integers(0, 256, size=lit.shape, dtype=np.uint8) < 13
    images = rng.integers(0, 256, size=lit.shape, dtype=np.uint8).astype(np.float32)
    images *= lit
    images /= 255.0
    return images, labels


def from_file(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads `x_train` and `y_train` from an `.npz` file; integer pixels are divided by 255.

    Args:
        path: the file.

    Returns:
        float32 images `[n, 28, 28]` and int64 labels `[n]`.

    Raises:
        ValueError: if the file cannot be read, lacks a key, or holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f"`data` names {path}, which is not a file")
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one array without a name")
            missing = {"x_train", "y_train"} - set(archive.files)
            if missing:
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            images, labels = archive["x_train"], archive["y_train"]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"`data` names {path}, but it cannot be used: {error}; "
            "wanted: an .npz file with the arrays x_train and y_train"
        ) from error
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or len(images) != len(labels):
        raise ValueError(
            f"`data` names {path}: x_train has shape {images.shape} and y_train {labels.shape}; "
            "wanted [n, 28, 28] and [n]"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise ValueError(
            f"`data` names {path}: y_train is {labels.dtype} of shape {labels.shape}; "
            "wanted whole numbers of shape [n]"
        )
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= CLASSES:
        raise ValueError(f"`data` names {path}: labels must lie in 0 to {CLASSES - 1}")
    scale = 255.0 if np.issubdtype(images.dtype, np.integer) else 1.0
    return images.astype(np.float32) / np.float32(scale), labels.astype(np.int64)
