"""Ten examples, from every kind of source that a run reads."""

import numpy as np
import tensorflow as tf

from gradloop import loops

X = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def batches(x=X):
    return loops.Batches(x, Y, 4, seed=1)


def generated():
    def generate():
        for first in range(0, 10, 4):
            yield X[first : first + 4], Y[first : first + 4]

    specs = (tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None, 1], tf.float32))
    return tf.data.Dataset.from_generator(generate, output_signature=specs)


def shuffled():
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(10, seed=3).batch(4)
