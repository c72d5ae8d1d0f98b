"""A loop of one's own on two replicas goes on from a checkpoint as if it had not stopped: `... FOLDER`."""

import sys

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops
from gradloop.loops.checkpoint.saved_objects import SavedObjects
from tests.values import assert_same

strategy = loops.strategy("mirrored:cpu:2")
X = np.random.RandomState(0).rand(12, 3).astype("float32")


class Whole(keras.metrics.Metric):
    """Counts 1 on the first replica and 2 on the second, in whole numbers."""

    def __init__(self):
        super().__init__(name="whole")
        self.number = self.add_variable((), "zeros", dtype="int32", name="number")

    def update_state(self):
        self.number.assign(self.number + 1 + tf.distribute.get_replica_context().replica_id_in_sync_group)

    def result(self):
        return self.number


def made(seed):
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        layers = [keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.BatchNormalization()]
        model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
        update = loops.Update(keras.optimizers.Adam(0.1), model.trainable_variables, accumulate=2)
        seeds, noise = keras.random.SeedGenerator(seed), tf.random.Generator.from_seed(seed)
        mean, whole = keras.metrics.Mean(), Whole()

        @loops.replicated
        def step(x):
            with tf.GradientTape() as tape:
                drawn = keras.random.normal(tf.shape(x), seed=seeds) + noise.normal(tf.shape(x))
                loss = loops.mean_loss(tf.square(model(x + drawn, training=True))[:, 0])
            update(tape.gradient(loss, update.variables), loss)
            mean.update_state(tf.ones_like(x[:, 0]))
            whole.update_state()
            return loss

    state = {"model": model, "update": update, "seeds": seeds, "noise": noise, "mean": mean, "whole": whole}
    return state | {"steps": 0}, step


def run(state, step, iterator, steps):
    for _ in range(steps):
        step(next(iterator))
        state["steps"] += 1


data, checkpoint = loops.Batches(X, None, 2), loops.Checkpoint(sys.argv[1])
state, step = made(0)
iterator = checkpoint.restore(state, data)
run(state, step, iterator, 3)
checkpoint.save(state, iterator)
run(state, step, iterator, 2)
again, step = made(1)
iterator = checkpoint.restore(again, data)
assert int(again["whole"].number.numpy()) == 9, again["whole"].number
run(again, step, iterator, 2)
assert_same(SavedObjects(again).capture()[1], SavedObjects(state).capture()[1])
assert again["steps"] == 5

on_read = {"synchronization": tf.VariableSynchronization.ON_READ}
with strategy.scope():
    own = tf.Variable(0, **on_read)
try:
    checkpoint.save({"own": own})
except ValueError as error:
    assert "`step` has under 'own' a variable of which each replica has a value of its own" in str(error)
else:
    raise AssertionError("saved")
print("the same")
