"""Cells of the grid whose matter is the loss or a metric: weights, masks, and what divides a sum."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

from .harness import DIGITS, WEIGHT, WORDS, K, L, X, Y, cell, dense, equal, per_replica_count, same


@cell
def metrics(strategy):
    y = (Y > 0).astype("float32")

    def make():
        return keras.Sequential([keras.Input((6,)), L.Dense(1, "sigmoid", name="last")])

    wanted = (lambda: keras.metrics.AUC(name="auc"), "accuracy", "mse")
    equal(strategy, make=make, y=y, loss="binary_crossentropy", metrics=wanted, evaluated=True)


@per_replica_count
def sample_weights(strategy):
    equal(strategy, weight=WEIGHT, metrics=("accuracy",), evaluated=True)
    for reduction in ("mean_with_sample_weight", "sum"):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        equal(strategy, weight=WEIGHT, loss=loss, optimizer=lambda model: K.SGD(0.01))


@cell
def a_masked_sequence(strategy):
    def make():
        return keras.Sequential(
            [keras.Input((4,), dtype="int32"), L.Embedding(5, 4, mask_zero=True), L.Dense(3)]
        )

    y = np.repeat(Y[:, None], 4, axis=1)
    weight = WEIGHT[:, None] * np.ones((1, 4), "float32")
    equal(strategy, make=make, x=WORDS, y=y, weight=weight, metrics=("accuracy",), evaluated=True)


@per_replica_count
def a_divisor_and_a_metric_of_each_replica(strategy):
    """In batches of 20, 20 and 1: what is divided by differs, and MeanIoU has no weights below 1."""
    ignoring = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    wanted = {"metrics": (lambda: keras.metrics.MeanIoU(3, sparse_y_pred=False, name="iou"),), "epochs": 4}
    equal(strategy, loss=ignoring, batch=20, **wanted)


@cell
def what_takes_examples_together_is_refused(strategy):
    def function(model, batch):
        return keras.losses.Circle()(batch[1], model(batch[0]))

    refused = (("circle", []), (function, []), ("dice", []), (DIGITS, [lambda y, p: tf.reduce_max(p)]))
    for loss, metrics in refused:
        with strategy.scope():
            step = loops.TrainStep(dense(), loss, K.SGD(0.1), metrics=metrics)
        y = np.eye(3)[Y] if loss == "dice" else Y
        try:
            step.run(iter(loops.Batches(X, y, 16)), 1)
        except ValueError as error:
            assert strategy.num_replicas_in_sync > 1 and "example" in str(error), error
        else:
            assert strategy.num_replicas_in_sync == 1


@cell
def examples_taken_together_in_a_loop_of_ones_own(strategy):
    """The way out that the refusal names."""

    def train(where):
        keras.utils.set_random_seed(0)
        with where.scope() if where else tf.name_scope(""):
            model = dense()
            update = loops.Update(K.SGD(0.1), model.trainable_variables)

            @loops.replicated
            def step(x, y):
                with tf.GradientTape() as tape:
                    outputs, context = model(x), tf.distribute.get_replica_context()
                    if context.num_replicas_in_sync > 1:
                        outputs, y = (context.all_gather(value, axis=0) for value in (outputs, y))
                    losses = keras.losses.circle(y, tf.nn.l2_normalize(outputs, -1), gamma=1)
                    loss = tf.reduce_mean(losses) / context.num_replicas_in_sync
                update(tape.gradient(loss, update.variables))
                return loss

        loss = step(X, Y).numpy()
        return {"loss": loss, **{v.path.split("/", 1)[1]: v.numpy() for v in model.weights}}

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):  # refuses plain arrays
        same(train(None), train(strategy))


@cell
def loss_functions(strategy):
    def by_hand(model, batch, training=True):
        predictions = model(batch[0], training=training)
        return (
            tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], predictions)),
            predictions,
        )

    def by_mean_losses(model, batch, training=True):
        predictions = model(batch[0], training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], predictions)
        return loops.mean_loss(losses, mask=batch[1] > 0) + 0.1 * loops.mean_loss(losses), predictions

    def ignoring(model, batch, training=True):
        predictions = model(batch[0], training=training)
        ignores = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
        return ignores(batch[1], predictions), predictions

    for loss in (by_hand, by_mean_losses, ignoring):
        equal(strategy, loss=loss, make=lambda: dense(kernel_regularizer="l2"), metrics=("accuracy",))
