"""Drawing, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.tensorboard_log import pictures
from gradloop.loops.tensorboard_log.pictures import Scale

RANDOM = np.random.RandomState(0).rand(4, 5, 6, 3)


@pytest.mark.parametrize(
    ("images", "expected", "words"),
    [
        (RANDOM, RANDOM * 255, "from 0 to 1"),
        (RANDOM * 250, RANDOM * 250, "from 0 to 255"),
        (RANDOM * 2 - 1, RANDOM * 255, "from -1 to 1"),
        ((RANDOM * 255).astype("uint8"), (RANDOM * 255).astype("uint8"), "from 0 to 255"),
        ((RANDOM * 1.5).astype("int32"), (RANDOM * 1.5).astype("int32"), "from 0 to 255"),
    ],
)
def test_values_become_pixels(images, expected, words):
    scale = Scale.of(images)
    np.testing.assert_allclose(scale.picture(images[1]), expected[1], atol=0.51)
    assert words in scale.description


@pytest.mark.parametrize("factor", [1.0, 1000.0])
def test_standardised_values_are_stretched_by_channel(factor):
    images = (RANDOM - RANDOM.mean((0, 1, 2))) / RANDOM.std((0, 1, 2)) * factor
    flat = images.reshape(-1, 3)
    expected = (images[0] - flat.min(0)) / (flat.max(0) - flat.min(0)) * 255
    scale = Scale.of(images)
    np.testing.assert_allclose(scale.picture(images[0]), expected, atol=0.51)
    assert "stretched" in scale.description


def test_nan_is_black_and_what_is_transparent_white():
    image = np.zeros((2, 2, 4))
    image[0, 0], image[1, 1] = (1, 0, 0, 1), (np.nan, 0, 0, 1)
    picture = Scale.of(image[None]).picture(image)
    assert picture[0, 0].tolist() == [255, 0, 0] and picture[0, 1].tolist() == [255, 255, 255]
    assert picture[1, 1].tolist() == [0, 0, 0]


def test_grey_images_of_one_value():
    assert Scale.of(np.full((2, 3, 3, 1), -7.0)).picture(np.full((3, 3, 1), -7.0)).max() == 0


@pytest.mark.parametrize(
    ("size", "expected"), [((8, 4), (96, 48)), ((96, 96), (96, 96)), ((300, 200), (100, 66))]
)
def test_sizes(size, expected):
    picture = np.full((*size, 3), 9, np.uint8)
    assert pictures.resized(picture, 96).shape[:2] == expected
    assert set(np.unique(pictures.resized(picture, 96))) == {9}


def test_large_images_are_averaged():
    picture = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    expected = picture.reshape(2, 2, 2, 2, 3).mean((1, 3)).astype(int)
    np.testing.assert_array_equal(pictures.resized(picture, 2), expected)


def test_text():
    drawn = pictures.canvas(7, 20)
    pictures.draw_text(drawn, "17?~", 1, 1, size=1)
    seen = np.array([["#" if pixel.max() == 0 else " " for pixel in row] for row in drawn])
    rows = ["".join(row).rstrip() for row in seen]
    assert rows == ["", "  #  ### ##", " ##    #   #", "  #   #   #", "  #  #", " ### #    #", ""]
    assert pictures.text_width("17", size=2) == 14


def test_every_character_is_another():
    assert len(set(pictures._GLYPHS.values())) == len(pictures._GLYPHS)
    assert all(len(rows) == 5 and set(rows) <= set("01234567") for rows in pictures._GLYPHS.values())


def test_a_grid_holds_every_tile():
    tiles = [np.full((10, 20 + number, 3), number, np.uint8) for number in range(7)]
    drawn = pictures.grid(tiles)
    for number, tile in enumerate(tiles):
        assert (drawn == number).all(-1).sum() == tile.shape[0] * tile.shape[1]


def test_a_tile_has_frame_and_caption():
    image = np.full((4, 4, 3), 7, np.uint8)
    tile = pictures.tile(image, "12345678", pictures.RED)
    assert (tile == 7).all(-1).sum() == 16
    assert (tile[:10] == pictures.RED).all(-1).sum() == 10 * 10 - 16 and tile.shape[1] > 60
    assert (tile[10:] == pictures.RED).all(-1).any()


@pytest.mark.parametrize(("inputs", "expected"), [(1, 6), (3, 6), (2, 12)])
def test_filters(inputs, expected):
    kernel = np.random.RandomState(0).randn(3, 3, inputs, 6).astype("float32")
    picture = pictures.filters_picture(kernel)
    columns = int(np.ceil(np.sqrt(2 * expected)))
    assert picture.shape == (-(-expected // columns) * 52 + 4, columns * 52 + 4, 3)
    first = picture[4:52:16, 4:52:16]  # a pixel of each weight
    weights = kernel[..., 0] if inputs == 3 else kernel[..., :1, 0].repeat(3, -1)
    np.testing.assert_allclose(first, (weights / np.abs(kernel).max() / 2 + 0.5) * 255, atol=0.51)
    largest = pictures.filters_picture(np.zeros((3, 3, 64, 64), "float32"))
    assert largest.shape[0] * largest.shape[1] < 1_000_000


def test_filters_of_which_some_are_not_finite():
    kernel = np.array([1.0, -1.0, np.nan, np.inf]).reshape(1, 1, 1, 4)
    picture = pictures.filters_picture(kernel)
    assert [int(picture[10, 10 + 52 * n, 0]) for n in range(3)] == [255, 0, 0] and not picture[60, 10].any()


def test_png():
    picture = pictures.canvas(3, 5, pictures.GREEN)
    np.testing.assert_array_equal(tf.io.decode_png(pictures.png(picture)), picture)
