"""Random numbers of three replicas; logical devices must be made before TensorFlow starts."""

import keras
import numpy as np
import tensorflow as tf

from gradloop.loops.step.replica_seeds import replica_seeds

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
ones = tf.ones([4, 16])


class Holder:
    """Keeps a generator where Keras does not look."""

    def __init__(self):
        self.generator = keras.random.SeedGenerator(7)


class Lists(keras.layers.Layer):
    """Drops by generators in a list, a dict and an object of its own."""

    def __init__(self, rate, seed):
        super().__init__()
        self.rate, self.listed = rate, [keras.random.SeedGenerator(seed)]
        self.named, self.held = {"a": keras.random.SeedGenerator(seed + 1)}, Holder()

    def call(self, x):
        for seed in (self.listed[0], self.named["a"], self.held.generator):
            x = x + keras.random.dropout(ones, self.rate, seed=seed)
        return x


keras.layers.Lists = Lists


def drawn(strategy, name="Dropout", own=True, calls=2):
    """What each replica drew in each call: (calls, replicas, 4, 16)."""
    with strategy.scope() if strategy else tf.name_scope(""):
        layer = getattr(keras.layers, name)(0.5, seed=7)
        model = keras.Sequential([keras.Input((16,)), layer])

    def run():
        return model(ones, training=True)

    @tf.function
    def call():
        if strategy is None:
            return [run()]
        with replica_seeds(strategy if own else None):
            return strategy.experimental_local_results(strategy.run(run))

    return np.array([[part.numpy() for part in call()] for _ in range(calls)])


def mirrored(count):
    devices = [f"/cpu:{index}" for index in range(count)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


three = mirrored(3)
for name in ("Dropout", "GaussianNoise", "Lists"):
    alone, found = drawn(None, name), drawn(three, name)
    np.testing.assert_array_equal(found[:, 0], alone[:, 0], "the first replica is one device")
    np.testing.assert_array_equal(found, drawn(three, name), "the same seed")
    assert len(np.unique(found.reshape(6, -1), axis=0)) == 6, "every call and replica has numbers of its own"
    # The number of replicas changes nothing for those that there are.
    np.testing.assert_array_equal(drawn(mirrored(2), name), found[:, :2])
    theirs = drawn(three, name, own=False)
    assert (theirs == theirs[:, :1]).all(), "Keras has its own way: see whether the module is needed"
