"""Models whose forward pass writes something, for tests of one device and of replicas."""

import keras
import numpy as np
import tensorflow as tf

RANDOM = np.random.RandomState(0)
X = RANDOM.normal(3.0, 2.0, (4, 3))
Y = RANDOM.rand(4, 2)
BAD = np.where(np.arange(4)[:, None] == 3, np.nan, X)


class Codebook(keras.layers.Layer):
    """Writes a weight of its own that is not to train, and a plain variable; rounds nothing."""

    def __init__(self):
        super().__init__()
        self.calls = {"n": tf.Variable(0.0, trainable=False)}

    def build(self, shape):
        self.codes = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.codes.assign(0.5 * self.codes + 0.5 * keras.ops.mean(x, 0))
            self.calls["n"].assign_add(1.0)
        return x - keras.ops.stop_gradient(self.codes)


def rnn():
    """A stateful RNN over the features, in batches of four."""
    layers = keras.layers
    return keras.Sequential([layers.Reshape((3, 1)), layers.SimpleRNN(3, stateful=True)], name="rnn")


KINDS = {
    "norm": lambda: keras.layers.BatchNormalization(momentum=0.5),
    "spectral": lambda: keras.layers.SpectralNormalization(keras.layers.Dense(3)),
    "rnn": rnn,
    "codebook": Codebook,
}


def model(kind, batch=4):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input(batch_shape=(batch, 3)), KINDS[kind](), keras.layers.Dense(2, name="head")]
    )
