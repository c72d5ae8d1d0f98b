"""Images that LeNet-5 cannot read are refused with what to do."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from gradloop.models import LeNet5

pytestmark = pytest.mark.numbers


@pytest.mark.parametrize(
    ("shape", "way_out"),
    [
        ((28, 28, 1), r"`x\[None\]`"),
        ((4, 28, 28), r"`x\[\.\.\., None\]`"),
        ((4, 784), r"`x\.reshape\(-1, 28, 28, 1\)`"),
        ((4, 28, 28, 3), r"rgb_to_grayscale"),
        ((4, 32, 32, 1), r"tf\.image\.resize"),
        ((784,), r"784 values"),
    ],
)
def test_says_how_to_reshape(shape: tuple[int, ...], way_out: str) -> None:
    with pytest.raises(ValueError, match=rf"\(batch, 28, 28, 1\); got .*{way_out}"):
        LeNet5()(np.zeros(shape, "float32"))


def test_refuses_bytes() -> None:
    with pytest.raises(ValueError, match=r'got uint8: `x\.astype\("float32"\) / 255`'):
        LeNet5()(np.zeros((4, 28, 28, 1), "uint8"))


@pytest.mark.parametrize("shape", [None, (None, None, None, None), (None, 28, 28, 1)])
def test_runs_in_a_graph_of_any_batch(shape: tuple[int | None, ...] | None) -> None:
    model, x = LeNet5(), np.random.default_rng(1).random((3, 28, 28, 1), "float32")
    traced = tf.function(model, input_signature=[tf.TensorSpec(shape, "float32")])
    np.testing.assert_allclose(traced(x), model(x), atol=1e-6)
