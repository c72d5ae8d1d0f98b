"""Shifted images, beside NumPy's own way of shifting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from shared import augmentation


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


def test_flips_about_half_of_the_images_whole() -> None:
    x = np.random.default_rng(0).random((400, 4, 4, 3), "float32")
    flipped, labels = augmentation.flip()(x, np.arange(400), seed=(1, 2))
    np.testing.assert_array_equal(labels, np.arange(400))
    mirrored = np.array([np.array_equal(each, old[:, ::-1]) for each, old in zip(flipped, x)])
    kept = np.array([np.array_equal(each, old) for each, old in zip(flipped, x)])
    assert (mirrored ^ kept).all() and 150 < mirrored.sum() < 250


def test_a_mirror_image_at_the_edge() -> None:
    image = np.arange(25, dtype="float32").reshape(1, 5, 5, 1)
    moved = augmentation.shift(2, "REFLECT")(np.tile(image, (200, 1, 1, 1)), np.zeros(200), seed=(0, 0))[0]
    padded = np.pad(image[0, :, :, 0], 2, mode="reflect")
    known = {padded[a : a + 5, b : b + 5].tobytes() for a in range(5) for b in range(5)}
    assert {each[..., 0].tobytes() for each in moved.numpy()} == known


def test_photos_are_flipped_then_shifted_with_numbers_of_their_own() -> None:
    x = np.random.default_rng(0).random((64, 24, 24, 3), "float32")
    both = augmentation.photos(["shift", "flip"], 24)
    assert both is not None
    moved = both(x, np.zeros(64), seed=tf.constant([5, 6]))[0]
    flipped = augmentation.flip()(x, np.zeros(64), seed=(5, 6))[0]
    by_hand = augmentation.shift(2, "REFLECT")(flipped, np.zeros(64), seed=(5, 6))[0]
    np.testing.assert_array_equal(moved, by_hand)
    assert augmentation.photos([], 24) is None
    # A flip that told how far the same image moves would make fewer different images.
    mirrored = np.array([np.array_equal(each, old[:, ::-1]) for each, old in zip(flipped, x)])
    rows = tf.random.stateless_uniform((64, 2), (5, 6), 0, 5, tf.int32).numpy()[:, 0]
    assert len({(int(row), bool(flip)) for row, flip in zip(rows, mirrored)}) == 10
