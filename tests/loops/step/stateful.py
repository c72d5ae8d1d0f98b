"""A model with everything that a step's state may hold, for tests of it."""

import keras
import numpy as np

from gradloop import loops

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 6)).astype("float32")
Y = RANDOM.integers(0, 2, size=(24, 1))


class Block(keras.layers.Layer):
    """Has a seed generator, a metric and a layer of its own."""

    def __init__(self):
        super().__init__()
        self.drop = keras.layers.Dropout(0.3)
        self.dense = keras.layers.Dense(5)
        self.noise = keras.random.SeedGenerator(3)
        self.size = keras.metrics.Mean(name="size")

    def call(self, x, training=False):
        x = self.dense(self.drop(x, training=training))
        self.size.update_state(keras.ops.abs(x))
        return x + 0.1 * keras.random.normal(keras.ops.shape(x), dtype=x.dtype, seed=self.noise)


def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            Block(),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1, "sigmoid", dtype="float32", name="head"),
        ]
    )


def make_step(optimizer=None, **options):
    metrics = ["accuracy", keras.metrics.AUC(num_thresholds=20, name="auc")]
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    return loops.TrainStep(make_model(), "binary_crossentropy", optimizer, metrics=metrics, **options)
