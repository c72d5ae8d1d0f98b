"""Cells of the grid whose matter is the run: its data, its loop, and numbers that are not finite."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

from .harness import DIGITS, WEIGHT, K, L, X, Y, cell, dense, equal, one_step, per_replica_count, policy, same


@per_replica_count
def plain(strategy):
    equal(strategy, metrics=("accuracy",), evaluated=True)


@cell
def a_transform_that_draws_at_random(strategy):
    def noisy(x, y, seed):
        return x + tf.random.stateless_normal(tf.shape(x), seed), y

    equal(strategy, transform=noisy)


@per_replica_count
def a_bad_gradient_is_named(strategy):
    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        return  # an error on several workers ends their reductions for good
    for name in ("float64", "mixed_float16"):
        with strategy.scope():
            with policy(name):
                model = dense()
            step = loops.TrainStep(model, DIGITS, K.SGD(0.1))
        x, before = X[:16].copy(), model.get_weights()
        x[-1] = np.nan  # the last replica's
        try:
            one_step(step, x, Y[:16])
        except loops.NonFiniteError as error:
            assert error.variable == "first/kernel", error.variable
        else:
            raise AssertionError("not found")
        for now, then in zip(model.get_weights(), before):
            np.testing.assert_array_equal(now, then)


@per_replica_count
def a_last_batch_smaller_than_the_replicas(strategy):
    equal(strategy, batch=20, weight=WEIGHT, evaluated=True)  # 41 = 20 + 20 + 1
    entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    penalised = {"make": lambda: dense(kernel_regularizer="l2"), "metrics": ("accuracy", "mae")}
    equal(strategy, batch=38, y=np.eye(3, dtype="float32")[Y], loss=entropy, **penalised)


@per_replica_count
def mixed_float16_with_an_infinity_on_one_replica(strategy):
    found = []
    for where in (None, strategy):
        keras.utils.set_random_seed(0)
        with where.scope() if where else tf.name_scope(""):
            with policy("mixed_float16"):
                model = dense()
            step = loops.TrainStep(model, DIGITS, K.SGD(0.01))
        bad = X[:16].copy()
        bad[16 // max(strategy.num_replicas_in_sync, 2)] = 1e30  # the second replica's first example
        one_step(step, X[:16], Y[:16])
        before = [v.numpy() for v in model.trainable_variables]
        scale = float(step.optimizer.dynamic_scale.numpy())
        assert not np.isfinite(one_step(step, bad, Y[:16]))
        assert float(step.optimizer.dynamic_scale.numpy()) == scale / 2
        assert int(step.optimizer.inner_optimizer.iterations.numpy()) == 1
        for variable, value in zip(model.trainable_variables, before):
            for local in strategy.experimental_local_results(variable.value) if where else [variable]:
                np.testing.assert_array_equal(local.numpy(), value)
        for _ in range(3):
            one_step(step, X[:16], Y[:16])
        assert int(step.optimizer.inner_optimizer.iterations.numpy()) == 4
        found.append({v.path.split("/", 1)[1]: v.numpy() for v in model.trainable_variables})
    same(*found, 5e-4)  # partial sums are rounded to half precision, at other places


@cell
def train_only_between_epochs(strategy):
    equal(strategy, between=lambda step: step.train_only("last"), epochs=10)


@cell
def a_hand_written_loop(strategy):
    def train(where):
        keras.utils.set_random_seed(0)
        with where.scope() if where else tf.name_scope(""):
            model = dense(kernel_regularizer="l2")
            update = loops.Update(K.SGD(0.1, momentum=0.9), model.trainable_variables, clip_norm=0.3)
            entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

            @loops.replicated
            def step(x, y):
                with tf.GradientTape() as tape:
                    predictions = model(x, training=True)
                    loss = loops.mean_loss(entropy(y, predictions), model=model)
                update(tape.gradient(loss, update.variables))
                return {"loss": loss, "predictions": predictions}

        data, logged = loops.Batches(X, Y, 16, shuffle=False), []
        if isinstance(where, tf.distribute.MultiWorkerMirroredStrategy):
            # Plain arrays, of which each worker has its own, are refused; TensorFlow's way to shard is not.
            whole = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
            data = where.experimental_distribute_dataset(whole)
        for _ in range(34):
            for x, y in data:
                out = step(x, y)
                logged.append(float(out["loss"]))
        found = {"logged": np.array(logged), "last": model(X).numpy()}
        if isinstance(data, loops.Batches):
            found["part"] = out["predictions"].numpy()[:2]
        return found

    one, several = train(None), train(strategy)
    same({name: one[name] for name in several}, several)


@cell
def dicts_and_datasets(strategy):
    def make():
        a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
        return keras.Model({"a": a, "b": b}, L.Dense(3, name="last")(a * b))

    equal(strategy, make=make, x={"a": X, "b": X[:, ::-1].copy()})

    def train(where):
        keras.utils.set_random_seed(0)
        with where.scope() if where else tf.name_scope(""):
            model = dense()
            step = loops.TrainStep(model, DIGITS, K.SGD(0.1))
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
        history = loops.train(step, data, epochs=10).history
        return {"loss": np.array(history["loss"]), "kernel": model.get_layer("first").kernel.numpy()}

    same(train(None), train(strategy))
