"""Random numbers of each replica: one device's on the first, others on the rest."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from gradloop.loops.step.replica_seeds import replica_seeds


class Three:
    num_replicas_in_sync = 3


def nested():
    """A model with three layers that draw, one of them inside another model and one used twice."""
    inputs = keras.Input((4,))
    shared = keras.layers.Dropout(0.5, name="shared")
    inner = keras.Sequential([keras.Input((4,)), keras.layers.GaussianNoise(1.0, name="noise")], name="inner")
    outputs = shared(inner(shared(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GaussianDropout(0.5)(outputs)))
    drawing = [shared, inner.get_layer("noise"), model.layers[-2]]
    return model, [layer.seed_generator for layer in drawing]


def replaced(generators):
    return ["next" in vars(generator) for generator in generators]


def test_every_generator_draws_otherwise_while_the_body_is_traced():
    model, generators = nested()
    assert replaced(generators) == [False] * 3
    with replica_seeds(model, Three()):
        assert replaced(generators) == [True] * 3
    assert replaced(generators) == [False] * 3
    with pytest.raises(RuntimeError, match="in the body"), replica_seeds(model, Three()):
        raise RuntimeError("in the body")
    assert replaced(generators) == [False] * 3


def test_outside_of_replicas_the_numbers_are_keras_own():
    """As when Keras draws once for all, while a layer is made."""
    model, generators = nested()
    for generator in generators:
        before = generator.state.numpy()
        with replica_seeds(model, Three()):
            ours = [np.array(generator.next()), np.array(generator.next(ordered=False))]
        generator.state.assign(before)
        theirs = [np.array(generator.next()), np.array(generator.next(ordered=False))]
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_that_draws_nothing():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with replica_seeds(model, Three()):
        assert model(np.zeros((1, 4))).shape == (1, 2)


# Logical devices must be made before TensorFlow starts, so in a process of its own.
PROGRAM = """
import keras
import numpy as np
import tensorflow as tf
from gradloop.loops.step.replica_seeds import replica_seeds

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
ones = tf.ones([4, 16])


def drawn(strategy, name="Dropout", own=True, calls=2):
    '''What each replica drew in each call: (calls, replicas, 4, 16).'''
    with strategy.scope() if strategy else tf.name_scope(""):
        layer = getattr(keras.layers, name)(0.5, seed=7)
        model = keras.Sequential([keras.Input((16,)), layer])
    run = lambda: model(ones, training=True)

    @tf.function
    def call():
        if strategy is None:
            return [run()]
        with replica_seeds(model, strategy if own else None):
            return strategy.experimental_local_results(strategy.run(run))

    return np.array([[part.numpy() for part in call()] for _ in range(calls)])


def mirrored(count):
    devices = [f"/cpu:{index}" for index in range(count)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


three = mirrored(3)
for name in ("Dropout", "GaussianNoise"):
    alone, found = drawn(None, name), drawn(three, name)
    np.testing.assert_array_equal(found[:, 0], alone[:, 0], "the first replica is one device")
    np.testing.assert_array_equal(found, drawn(three, name), "the same seed")
    assert len(np.unique(found.reshape(6, -1), axis=0)) == 6, "every call and replica has numbers of its own"
    # The number of replicas changes nothing for those that there are.
    np.testing.assert_array_equal(drawn(mirrored(2), name), found[:, :2])
    theirs = drawn(three, name, own=False)
    assert (theirs == theirs[:, :1]).all(), "Keras has its own way: see whether the module is needed"
"""


def test_three_replicas():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
