"""`replicated` on two replicas; logical devices must be made before TensorFlow starts."""

import numpy as np
import tensorflow as tf

from gradloop import loops

two = loops.strategy("mirrored:cpu:2")


@loops.replicated
def step(batch, scale):
    x, y = batch["x"], batch["y"]
    return {
        "n": tf.shape(x)[0],
        "sum": tf.reduce_sum(x) * scale,
        "pairs": tf.stack([x[:, 0], y], 1),
        "large": y > 2.0,
        "scaled": tf.constant(True),
    }


for n in (6, 7, 9):
    x, y = np.arange(2.0 * n).reshape(n, 2), np.arange(float(n))
    with two.scope():
        found = step({"x": x, "y": tf.constant(y)}, 0.5)
    assert int(found["n"]) == n and float(found["sum"]) == x.sum() / 2
    np.testing.assert_array_equal(found["pairs"], np.stack([x[:, 0], y], 1))
    np.testing.assert_array_equal(found["large"], y > 2)
    assert bool(found["scaled"]) and found["scaled"].shape == ()
