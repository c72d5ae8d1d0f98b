"""Objects for the dicts that checkpoints save."""

import keras
import tensorflow as tf

from gradloop import loops, optim


def kept_in(path, **objects):
    """The folder of a checkpoint with a dict of objects."""
    loops.Checkpoint(path).save(objects)
    return loops.Checkpoint(path)


class Counter:
    """An object with a state of its own, as variables by name."""

    def __init__(self, value):
        self.count = tf.Variable(value)

    def state(self):
        return {"count": self.count}


class Notes:
    """One whose state is JSON."""

    def __init__(self, text):
        self.text = text

    def state(self):
        return {"text": self.text}

    def set_state(self, state):
        self.text = state["text"]


def dense(units=2, seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, name="head")])


def with_update(optimizer, units=2, trains="*", **options):
    model = dense(units)
    return {"model": model, "update": loops.Update(optimizer, optim.select(model, trains), **options)}
