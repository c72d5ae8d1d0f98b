"""A small step, its data, and what was written of it."""

import os

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

X = np.random.RandomState(0).rand(22, 3).astype("float32")
Y = np.random.RandomState(1).rand(22, 2).astype("float32")


def small_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])


def small_step(rate=0.1, metrics=("mae",)):
    return loops.TrainStep(small_model(), "mse", keras.optimizers.SGD(rate), metrics=metrics)


def small_data():
    return loops.Batches(X, Y, 5, shuffle=False)


def events_in(file):
    """Those of an event file that hold values."""
    events = map(tf.compat.v1.Event.FromString, tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    return [event for event in events if event.summary.value]


def scalars_in(folder):
    """{tag: [(step, value), ...]} of all event files of a folder, in order."""
    found = {}
    for name in sorted(os.listdir(folder)):
        for event in events_in(folder / name):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name != "scalars":
                    continue  # what other tests of this folder are about
                number = float(tf.make_ndarray(value.tensor))
                found.setdefault(value.tag, []).append((event.step, number))
    return found
