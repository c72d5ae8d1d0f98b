"""Cells of what `loops.record` is given: on any number of replicas, NumPy's values over the whole batch."""

from __future__ import annotations

import tempfile

import keras
import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gradloop import loops

from .harness import K, X, Y, per_replica_count

# Two whole batches, and one of fewer examples than replicas.
EXAMPLES, BATCH = 33, 16


@keras.saving.register_keras_serializable("grid")
class Recording(keras.layers.Dense):
    def call(self, x, training=None):
        outputs = super().call(x)
        loops.record("layer", tf.reduce_mean(outputs))
        loops.record("largest", tf.reduce_max(outputs), reduce="max")
        return outputs


def error(y, predictions):
    loops.record("metric", tf.reduce_mean(predictions) + 1.0)
    return tf.abs(predictions[:, 0] - tf.cast(y, predictions.dtype))


def squares(model, batch, training=True):
    outputs = model(batch[0], training=training)
    loops.record("total", tf.reduce_sum(outputs), reduce="sum")
    loss = loops.mean_loss(outputs[:, 0] ** 2)
    loops.record("again", loss)
    loops.record("masked", loops.mean_loss(outputs[:, 0], mask=batch[0][:, 0] > 0))
    return loss, outputs


def by_numpy(kernel, rate):
    """What each step is to record, and the loss, as gradient descent moves the kernel."""
    rows = []
    for first in range(0, EXAMPLES, BATCH):
        x = X[first : min(first + BATCH, EXAMPLES)].astype("float64")
        outputs = x @ kernel
        names = {"layer": outputs.mean(), "largest": outputs.max(), "total": outputs.sum()}
        loss = (outputs**2).mean()
        masked = outputs[x[:, 0] > 0].mean() if (x[:, 0] > 0).any() else 0.0
        rows.append({**names, "loss": loss, "again": loss, "masked": masked})
        kernel = kernel - rate * 2 * x.T @ outputs / len(x)
    return {name: [row[name] for row in rows] for name in rows[0]}


def assert_right(found, right):
    for name, values in right.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=2e-6, err_msg=name)


@per_replica_count
def recorded_scalars(strategy):
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential([keras.Input((6,)), Recording(1, use_bias=False)])
        step = loops.TrainStep(model, squares, K.SGD(0.1), metrics=[error])
        evaluation = loops.EvalStep(model, squares)
    data = loops.Batches(X[:EXAMPLES], Y[:EXAMPLES], BATCH, shuffle=False)
    right = by_numpy(model.get_weights()[0], 0.0)
    assert_right(evaluation.run(iter(data), 3), right)
    right = by_numpy(model.get_weights()[0], 0.1)
    found = step.run(iter(data), 3)
    assert_right(found, {**right, "metric": np.array(right["layer"]) + 1.0})
    assert step.traces == evaluation.traces == 1


@per_replica_count
def recorded_scalars_in_a_loop_of_ones_own(strategy):
    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        return  # several workers take no plain arrays
    with strategy.scope():
        model = keras.Sequential([keras.Input((6,)), Recording(1, use_bias=False)])
        update = loops.Update(K.SGD(0.1), model.trainable_variables)

        @loops.replicated
        def step(x):
            with tf.GradientTape() as tape:
                outputs = model(x, training=True)
                loss = loops.mean_loss(outputs[:, 0] ** 2)
            update(tape.gradient(loss, update.variables))
            loops.record("total", tf.reduce_sum(outputs), reduce="sum")
            return {"loss": loss}

        right = by_numpy(model.get_weights()[0], 0.1)
        parts = range(0, EXAMPLES, BATCH)
        rows = [step(X[first : min(first + BATCH, EXAMPLES)].astype("float64")) for first in parts]
    found = {name: [float(row[name]) for row in rows] for name in rows[0]}
    assert_right(found, {name: right[name] for name in found})


@per_replica_count
def summaries(strategy):
    """The first replica writes, at the step's number."""
    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        return  # each worker would need a folder of its own

    def loss(model, batch):
        tf.summary.scalar("first", batch[0][0, 0])
        return loops.mean_loss(model(batch[0], training=True))

    with tempfile.TemporaryDirectory() as folder:
        writer = tf.summary.create_file_writer(folder)
        with strategy.scope(), writer.as_default():
            model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
            step = loops.TrainStep(model, loss, K.SGD(0.1))
            step.run(iter(loops.Batches(X[:EXAMPLES], Y[:EXAMPLES], BATCH, shuffle=False)), 3)
        writer.close()
        (tag,) = (events := EventAccumulator(folder, size_guidance={"tensors": 0}).Reload()).Tags()["tensors"]
        found = [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
    assert found == [(1, X[0, 0]), (2, X[16, 0]), (3, X[32, 0])], found
