"""The data all contenders train on: 28x28 images in ten classes, synthetic or from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared import array_files

CLASSES = 10
SIDE = 28


def load(network: str, examples: int, path: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels from the file at `path`, or synthetic ones, in the layout that the network takes.

    They are float32 `[n, 784]` (softmax) or `[n, 28, 28, 1]` (lenet5) in 0 to 1, and int64 `[n]`.
    """
    images, labels = synthetic(examples) if path is None else from_file(path)
    shape = (-1, SIDE * SIDE) if network == "softmax" else (-1, SIDE, SIDE, 1)
    return images.reshape(shape), labels


def synthetic(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten fixed random shapes, each pixel flipped with a chance of 5% and of random brightness.

    About as bright as handwritten digits, so that the same learning rate trains, and learnable, so that a
    contender that does not train is found out. The data is the same on every machine: float32 images
    `[examples, 28, 28]` in 0 to 1 and int64 labels `[examples]`.
    """
    rng = np.random.default_rng(0)
    shapes = rng.random((CLASSES, SIDE, SIDE)) < 0.15
    labels = rng.integers(0, CLASSES, size=examples, dtype=np.int64)
    lit = shapes[labels]
    lit ^= rng.integers(0, 256, size=lit.shape, dtype=np.uint8) < 13
    images = rng.integers(0, 256, size=lit.shape, dtype=np.uint8).astype(np.float32)
    images *= lit
    images /= 255.0
    return images, labels


def from_file(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Float32 images `[n, 28, 28]` in 0 to 1 and int64 labels `[n]` from an `.npz` file; `DataError` else."""
    arrays = array_files.read(Path(path), ["x_train", "y_train"])
    images, labels = arrays["x_train"], arrays["y_train"]
    fits = images.shape[1:] in ((SIDE, SIDE), (SIDE, SIDE, 1))
    array_files.check_images(f"{path}: x_train", images, fits, "(n, 28, 28) or (n, 28, 28, 1)")
    array_files.check_labels(f"{path}: y_train", labels, len(images))
    if labels.max() >= CLASSES:
        raise array_files.DataError(f"{path}: y_train has label {labels.max()}; wanted 0 to {CLASSES - 1}")
    white = np.float32(array_files.value_of_white(path, {"x_train": images}))
    return images.reshape(-1, SIDE, SIDE).astype(np.float32) / white, labels.astype(np.int64)
