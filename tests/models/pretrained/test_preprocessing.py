"""What a `preprocess_input` function does, found by calling it."""

from functools import partial

import keras
import numpy as np
import pytest

from gradloop.models.pretrained.preprocessing import affine, is_identity, preprocess_pixels

PREPROCESS = keras.applications.imagenet_utils.preprocess_input


@pytest.mark.parametrize(
    ("mode", "order", "scale", "offset"),
    [
        ("tf", [0, 1, 2], [1 / 127.5] * 3, [-1.0] * 3),
        ("caffe", [2, 1, 0], [1.0] * 3, [-103.939, -116.779, -123.68]),
        (
            "torch",
            [0, 1, 2],
            1 / (255 * np.array([0.229, 0.224, 0.225])),
            -np.array([0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        ),
    ],
)
def test_the_published_numbers(mode, order, scale, offset):
    found = affine(partial(PREPROCESS, mode=mode, data_format="channels_last"))
    assert found[0] == order
    np.testing.assert_allclose(found[1], scale, rtol=1e-6)
    np.testing.assert_allclose(found[2], offset, rtol=1e-6)


def test_nothing_to_do():
    assert is_identity(keras.applications.efficientnet.preprocess_input)
    assert not is_identity(keras.applications.vgg16.preprocess_input)
    assert not is_identity(lambda x: x[..., ::-1])
    pixels = keras.Input((4, 4, 3))
    assert preprocess_pixels(pixels, lambda x: x) is pixels
