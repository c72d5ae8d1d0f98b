"""What two replicas refuse, and what `replicated` does with arguments and results."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.distribute import sharding
from gradloop.loops.distribute.scope import check_scope, scope_of, strategy_of
from gradloop.loops.step.replica_seeds import replica_seeds
from tests.programs import Program

PROGRAM = Path(__file__).parent / "programs" / "refusals.py"


def test_two_replicas(tmp_path):
    assert Program(PROGRAM, folder=tmp_path).finish().endswith("done\n")


@pytest.fixture
def one():
    return tf.distribute.MirroredStrategy(["/cpu:0"])


def test_scope(one):
    plain = keras.Variable(1.0)
    with one.scope():
        own = keras.Variable(1.0)
    assert strategy_of([plain], "model") is None
    assert strategy_of([own], "model") is one
    check_scope("optimizer", plain, None)
    check_scope("optimizer", own, one)
    with scope_of(one):
        assert tf.distribute.get_strategy() is one
    with scope_of(None):
        assert not tf.distribute.has_strategy()


def test_a_strategy_of_one_replica_trains(one):
    x, y = np.ones((4, 3), "float32"), np.zeros((4, 1), "float32")
    with one.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
        step = loops.TrainStep(model, "mse", "sgd")
    alone = keras.models.clone_model(model)
    alone.set_weights(model.get_weights())
    other = loops.TrainStep(alone, "mse", "sgd")
    for _ in range(3):
        assert float(step(x, y)["loss"]) == float(other(x, y)["loss"])
    np.testing.assert_array_equal(model.layers[0].kernel, alone.layers[0].kernel)


def test_parts_of_a_batch_that_is_not_read_yet():
    batch = sharding.LazyBatch(tf.range(3, 8), lambda indices: indices * 10)
    one = tf.distribute.MirroredStrategy(["/cpu:0"])

    @tf.function
    def run():
        return sharding.on_replicas(one, lambda part, share: part, batch)

    assert run().numpy().tolist() == [30, 40, 50, 60, 70]


def test_masks_are_left_alone_on_one_device(one):
    draw = keras.random.SeedGenerator.next
    for strategy in (None, one):
        with replica_seeds(strategy):
            assert keras.random.SeedGenerator.next is draw
