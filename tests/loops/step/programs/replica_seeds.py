"""Random numbers of three replicas; logical devices must be made before TensorFlow starts."""

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state

from gradloop import loops
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


# Without a seed: from one generator of the process, which is made before a replica draws from it.
def unseeded(strategy, before):
    global_state.set_global_attribute("global_seed_generator", None)
    keras.utils.set_random_seed(5)
    if before:
        keras.random.normal(())

    @loops.replicated
    def step(x):
        return keras.random.uniform((1,))

    with strategy.scope() if strategy else tf.name_scope(""):
        return [step(ones).numpy() for _ in range(3)] + [keras.random.uniform((1,)).numpy()]


alone, found = unseeded(None, False), unseeded(three, False)
for each, one in zip(found, alone):
    assert len(set(each)) == len(each) and each[0] == one[0], (found, alone)
np.testing.assert_array_equal(unseeded(three, True)[:2], found[1:3], "one that is there goes on")
