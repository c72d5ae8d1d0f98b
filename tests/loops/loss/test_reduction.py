"""The loss of a batch and what it was divided by, against NumPy and, where it is right, Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.distribute.sharding import Shard
from gradloop.loops.loss.reduction import LossValue, reduced

pytestmark = pytest.mark.numbers

RANDOM = np.random.RandomState(0)
LOSSES = {"flat": RANDOM.rand(5), "sequence": RANDOM.rand(5, 3), "square": RANDOM.rand(5, 5)}
WEIGHTS: dict[str, list[tuple[int, ...]]] = {
    "flat": [(5,), (5, 1)],
    "sequence": [(5,), (5, 1), (5, 3), (5, 3, 1)],
    "square": [(5,)],
}
CASES = [(kind, shape) for kind in WEIGHTS for shape in [None, *WEIGHTS[kind]]]


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_reductions(kind, shape, masked, reduction):
    losses, mask = LOSSES[kind], RANDOM.rand(*LOSSES[kind].shape) < 0.6
    weight = None if shape is None else RANDOM.rand(*shape)
    factor = np.ones_like(losses) if weight is None else weight.reshape(5, -1)
    factor = np.broadcast_to(
        factor.reshape(losses.shape) if factor.size == losses.size else factor, losses.shape
    )
    counts = mask.astype(float) if masked else np.ones_like(losses)
    divisor = np.sum(counts * factor if reduction == "mean_with_sample_weight" else counts)
    expected = np.sum(losses * counts * factor) / (1.0 if reduction == "sum" else divisor)
    found = reduced(
        reduction,
        tf.constant(losses),
        None if weight is None else tf.constant(weight, tf.float32),
        [tf.constant(mask) if masked else None],
        tf.constant(5.0),
    )
    assert float(found.value) == pytest.approx(expected, rel=1e-6)
    assert float(found.divisor) == pytest.approx(5.0 if reduction == "sum" else divisor, rel=1e-6)
    if kind != "square" and shape != (5,):  # those weights Keras lays along time

        class Given(keras.losses.Loss):
            def call(self, y, predictions):
                predictions._keras_mask = tf.constant(mask) if masked else None
                return predictions

        by_keras = Given(reduction=reduction)(losses, losses, sample_weight=weight)
        if reduction != "mean_with_sample_weight" or shape in (None, losses.shape):
            assert float(by_keras) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("by", ["examples", "sum"])
def test_the_part_of_a_replica(by):
    """Two of seven examples, and all of one that three replicas have."""
    value = LossValue(tf.constant(6.0), tf.constant(4.0), by)
    part = value.of_replica(tf.constant(2.0), Shard(tf.constant(7.0), tf.constant(1.0)))
    assert float(part.value) == pytest.approx(6.0 if by == "sum" else 6.0 * 2 / 7)
    assert float(part.divisor) == (2.0 if by == "sum" else 4.0)
    part = value.of_replica(tf.constant(1 / 3), Shard(tf.constant(1.0), tf.constant(1 / 3)))
    assert float(part.value) == pytest.approx(2.0)


def test_parts_in_float64_are_not_rounded_to_float32():
    value = LossValue(tf.constant(7.0, tf.float64), tf.constant(3.0))
    part = value.of_replica(tf.constant(3.0), Shard(tf.constant(7.0), tf.constant(1.0)))
    assert float(part.value) == pytest.approx(3.0, rel=1e-15)


def test_a_batch_that_is_masked_all_over():
    found = reduced("mean", tf.ones((2, 3)), None, [tf.zeros((2, 3), tf.bool)], tf.constant(2.0))
    assert [float(number) for number in found[:2]] == [0.0, 0.0]
