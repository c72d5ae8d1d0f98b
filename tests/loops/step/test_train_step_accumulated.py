"""Batches that accumulate make the update of all their examples as one batch, by a tape over all of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers

RANDOM = np.random.RandomState(0)
X, WEIGHT, Y = RANDOM.rand(13, 4, 3), RANDOM.rand(13), RANDOM.randint(0, 3, (13, 4))
Digits = keras.losses.SparseCategoricalCrossentropy
CASES = [
    ({}, False),
    ({}, True),
    ({"reduction": "mean_with_sample_weight"}, True),
    ({"ignore_class": 0}, False),
    ({"ignore_class": 0, "reduction": "mean_with_sample_weight"}, True),
]


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    outputs = keras.layers.Dense(3, kernel_regularizer="l2")
    return keras.Sequential([keras.Input((4, 3)), keras.layers.Masking(0.0), outputs])


@pytest.mark.parametrize(
    ("options", "weighted", "called"),
    [
        pytest.param(*case, called, marks=() if called == number % 2 else pytest.mark.long)
        for called in (False, True)
        for number, case in enumerate(CASES)
    ],
)
def test_short_batches_weights_and_masks(options: dict[str, object], weighted: bool, called: bool) -> None:
    x = X * (np.arange(4) < RANDOM.randint(1, 5, 13)[:, None])[..., None]  # sequences of other lengths
    loss, whole, parts = Digits(from_logits=True, **options), model(), model()
    # Keras lays weights of examples along time; as weights of each value they are what they should be.
    weight = np.broadcast_to(WEIGHT[:, None], Y.shape) if weighted else None
    with tf.GradientTape() as tape:
        value = loss(Y, whole(x, training=True), sample_weight=weight) + tf.add_n(whole.losses)
    keras.optimizers.SGD(1.0).apply(
        tape.gradient(value, whole.trainable_variables), whole.trainable_variables
    )

    def function(model, batch, training=True):
        return loss(batch[1], model(batch[0], training=training), *batch[2:])

    step = loops.TrainStep(parts, function if called else loss, keras.optimizers.SGD(1.0), accumulate=4)
    data = loops.Batches(x, Y, 4, shuffle=False, sample_weight=WEIGHT if weighted else None)  # 4, 4, 4 and 1
    history = loops.train(step, data, epochs=1).history
    for one, other in zip(whole.get_weights(), parts.get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert history["loss"][0] == pytest.approx(float(value), rel=1e-6)  # before the only update
