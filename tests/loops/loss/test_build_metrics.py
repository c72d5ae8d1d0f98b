"""Metrics that make their variables at the first update have them before."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

X, Y = np.random.default_rng(0).random((6, 3), "float32"), np.eye(2, dtype="float32")[[0, 1, 1, 0, 1, 0]]


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2, "softmax")

    def call(self, x):
        return self.dense(x)


def functional():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])


def subclassed():
    model = Subclass()
    model(X)
    return model


def make(model, metric=None):
    metric = metric or keras.metrics.F1Score("macro", name="f1")
    return loops.TrainStep(model, "categorical_crossentropy", "sgd", metrics=[metric])


@pytest.mark.parametrize("model", [functional, subclassed])
def test_a_checkpoint_of_one_is_resumed_in_a_new_step(model, tmp_path):
    step, again = make(model()), make(model())
    value = float(step(X, Y)["f1"])
    checkpoint = loops.Checkpoint(tmp_path, verbose=0)
    checkpoint.save(step)
    checkpoint.restore(again)
    assert float(again.metrics[0].result()) == value
    names = [name for name in again.state() if name.startswith("metrics")]
    assert names[0] == "metrics/f1/true_positives" and len(names) == 4


class Counts(keras.metrics.Metric):
    """Counts targets, which are class indices: nothing that a model's output tells."""

    def update_state(self, y, predictions, sample_weight=None):
        if not self.variables:
            self.seen = self.add_variable((y.shape[-1], predictions.shape[-1]), "ones", name="seen")
        self.seen.assign_add(tf.ones_like(self.seen))

    def result(self):
        return tf.reduce_max(self.seen)


def transformed(x, y):
    return x, tf.concat([y, y], 1)


def test_the_first_batch_tells_what_no_model_does():
    """A batch, arrays with a transform, a dataset: targets of four columns, with the initial value of 1."""
    wide = np.concatenate([Y, Y], 1)
    runs = [
        lambda step: step(X, wide)["counts"],
        lambda step: step.run(iter(loops.Batches(X, Y, 6, transform=transformed)), 1)["counts"][0],
        lambda step: step.run(iter(tf.data.Dataset.from_tensors((X, wide))), 1)["counts"][0],
    ]
    for run in runs:
        metric = Counts(name="counts")
        step = loops.TrainStep(
            functional(), lambda m, b: (tf.reduce_sum(m(b[0])), m(b[0])), "sgd", metrics=[metric]
        )
        assert float(run(step)) == 2.0 and metric.seen.shape == (4, 2)
