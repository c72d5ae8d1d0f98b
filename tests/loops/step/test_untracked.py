"""Names of variables that Keras does not track."""

import keras
import numpy as np
import tensorflow as tf

from gradloop.loops.step.untracked import untracked_variables


class Helper:
    def __init__(self):
        self.count, self.itself = tf.Variable(0.0), self
        self.seed = keras.random.SeedGenerator(0)
        self.draws = {"noise": tf.random.Generator.from_seed(1)}


class Layer(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.plain = tf.Variable([1.0])
        self.lists = [tf.Variable(1.0), {"key": (tf.Variable(2.0),)}]
        self.helper = Helper()
        self.same = self.plain
        self.metric = keras.metrics.Mean()
        self.optimizer = keras.optimizers.SGD()
        self.drop = keras.layers.Dropout(0.5)

    def call(self, x):
        return x


def test_attributes_lead_to_them():
    model = keras.Sequential([keras.Input((2,)), Layer()])
    model.compile("adam", "mse", metrics=["mae"])
    model.evaluate(np.ones((2, 2)), np.ones((2, 2)), verbose=0)
    assert [name for name, _ in untracked_variables(model)] == [
        "layer/plain",
        "layer/lists/0",
        "layer/lists/1/key/0",
        "layer/helper/count",
        "layer/helper/seed/seed_generator_state",
        "layer/helper/draws/noise/state",
    ]


def test_states_of_a_stateful_rnn():
    cells = [keras.layers.LSTMCell(2), keras.layers.GRUCell(3)]
    layers = [keras.layers.RNN(cells, stateful=True, name="deep"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input(batch_shape=(2, 3, 1)), *layers])
    states = untracked_variables(model)
    assert [name for name, _ in states] == ["deep/states/0/0", "deep/states/0/1", "deep/states/1/0"]
    assert [variable.shape[1] for _, variable in states] == [2, 2, 3]
