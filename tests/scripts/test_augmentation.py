"""Shifted images, beside NumPy's own way of shifting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import augmentation


def numpy_shifts(image: Any, pixels: int) -> list[Any]:
    """Every shift of one image (height, width), in NumPy."""
    ways = range(-pixels, pixels + 1)
    height, width = image.shape
    found = []
    for down in ways:
        for right in ways:
            moved = np.roll(image, (down, right), axis=(0, 1))
            rows, columns = np.mgrid[0:height, 0:width]
            came_in = (rows - down < 0) | (rows - down >= height)
            came_in |= (columns - right < 0) | (columns - right >= width)
            found.append(np.where(came_in, 0, moved))
    return found


@pytest.mark.parametrize("pixels", [1, 2])
def test_each_image_is_one_of_its_shifts_and_all_occur(pixels: int) -> None:
    image = np.random.default_rng(0).random((28, 28), "float32")
    x = np.tile(image[None, :, :, None], (400, 1, 1, 1))
    y = np.arange(400)
    moved, labels = augmentation.shift(pixels)(x, y, seed=(1, 2))
    np.testing.assert_array_equal(labels, y)
    assert moved.shape == x.shape and moved.dtype == tf.float32
    known = {shifted.tobytes() for shifted in numpy_shifts(image, pixels)}
    assert {each[..., 0].tobytes() for each in moved.numpy()} == known


def test_seed_decides() -> None:
    x = np.random.default_rng(0).random((8, 28, 28, 1), "float32")
    move = augmentation.shift(2)
    np.testing.assert_array_equal(move(x, x, seed=(1, 2))[0], move(x, x, seed=(1, 2))[0])
    assert not np.array_equal(move(x, x, seed=(1, 2))[0], move(x, x, seed=(1, 3))[0])


def test_runs_in_a_graph_of_any_batch_size() -> None:
    x = np.random.default_rng(0).random((8, 28, 28, 1), "float32")
    spec = [tf.TensorSpec((None, 28, 28, 1)), tf.TensorSpec((None,)), tf.TensorSpec((2,), "int32")]
    traced = tf.function(augmentation.shift(1), input_signature=spec)
    eager = augmentation.shift(1)(x, np.zeros(8), seed=tf.constant([3, 4]))
    np.testing.assert_array_equal(traced(x, np.zeros(8), tf.constant([3, 4]))[0], eager[0])
