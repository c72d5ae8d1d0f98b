"""The cells of the grid: each trains on one device and on replicas, and compares what both gave."""

from __future__ import annotations

import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

from .harness import (
    DIGITS,
    IMAGES,
    WEIGHT,
    WORDS,
    K,
    L,
    X,
    Y,
    cell,
    dense,
    equal,
    one_step,
    per_replica_count,
    policy,
    run,
    same,
)


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
def L1_and_L2(strategy):
    equal(strategy, make=lambda: dense(kernel_regularizer=keras.regularizers.L1L2(1e-3, 1e-2)))


def normalised(synchronized):
    layer = L.BatchNormalization(synchronized=synchronized, momentum=0.9, name="norm")
    return keras.Sequential([keras.Input((6,)), L.Dense(8, use_bias=False, name="first"), layer, L.Dense(3)])


@per_replica_count
def BatchNorm_synchronised(strategy):
    # Keras takes the variance as E[x^2] - E[x]^2 where one device takes E[(x - E[x])^2].
    equal(strategy, make=lambda: normalised(True), evaluated=True)


@per_replica_count
def BatchNorm_not_synchronised(strategy):
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        model = normalised(False)
        step = loops.TrainStep(model, DIGITS, K.SGD(0.1))
    norm, momentum = model.get_layer("norm"), 0.9
    mean, variance = np.zeros(8), np.ones(8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for first in (0, 16, 32):
            x, y = X[first : first + 16], Y[first : first + 16]
            hidden = x @ model.get_layer("first").kernel.numpy()
            one_step(step, x, y)
            n = len(x)
            parts = [hidden[r * n // replicas : (r + 1) * n // replicas] for r in range(replicas)]
            means, variances = zip(*((part.mean(0), part.var(0)) for part in parts))
            mean = momentum * mean + (1 - momentum) * np.mean(means, 0)
            variance = momentum * variance + (1 - momentum) * np.mean(variances, 0)
    warned = [str(one.message) for one in caught if "synchronized=True" in str(one.message)]
    assert len(warned) == (replicas > 1), warned
    for variable, expected in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
        for local in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(local.numpy(), expected, rtol=1e-5, atol=1e-6)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras")
    np.testing.assert_allclose(loaded.get_layer("norm").moving_mean, mean, rtol=1e-5, atol=1e-6)
    loss = loops.evaluate(loops.EvalStep(model, DIGITS), loops.Batches(X, Y, 16))["loss"]
    alone = loops.evaluate(loops.EvalStep(loaded, DIGITS), loops.Batches(X, Y, 16))["loss"]
    np.testing.assert_allclose(loss, alone, rtol=1e-6)


@per_replica_count
def dropout(strategy):
    def make():
        return keras.Sequential([keras.Input((6,)), L.Dense(64, "relu"), L.Dropout(0.5), L.Dense(3)])

    same(run(strategy, make, epochs=4), run(strategy, make, epochs=4), 0.0)
    seen = []
    with strategy.scope():
        inputs = keras.Input((64,))
        dropped = L.Dropout(0.5)(inputs)
        masks = keras.Model(inputs, [dropped, L.Dense(1, use_bias=False)(dropped)])
        trained = loops.TrainStep(masks, loss_of(seen), K.SGD(0.0))
    # The batches hold the inputs alone, as the loss has no targets.
    trained.run(iter(loops.Batches(np.ones((8, 64), "float32"), None, 8)), 1)
    rows = np.concatenate(seen)
    here = 8 * len(strategy.extended.worker_devices) // strategy.num_replicas_in_sync
    assert len(rows) == here and len(np.unique(rows, axis=0)) == here, "two examples lost the same units"


def loss_of(seen):
    def loss(model, batch, training=True):
        dropped, predictions = model(batch, training=training)
        tf.py_function(lambda value: seen.append(value.numpy()), [dropped], [])
        return tf.reduce_mean(predictions)

    return loss


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
    equal(strategy, make=make, x=WORDS, y=y, metrics=("accuracy",), evaluated=True)
    equal(strategy, make=make, x=WORDS, y=y, weight=WEIGHT[:, None] * np.ones((1, 4), "float32"))


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
def train_only_between_epochs(strategy):
    equal(strategy, between=lambda step: step.train_only("last"), epochs=10)


@cell
def loss_functions(strategy):
    def of_keras(model, batch, training=True):
        predictions = model(batch[0], training=training)
        return DIGITS(batch[1], predictions), predictions

    def by_hand(model, batch, training=True):
        predictions = model(batch[0], training=training)
        return (
            tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], predictions)),
            predictions,
        )

    def by_mean_loss(model, batch, training=True):
        predictions = model(batch[0], training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], predictions)
        return loops.mean_loss(losses), predictions

    def masked(model, batch, training=True):
        predictions = model(batch[0], training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], predictions)
        return loops.mean_loss(losses, mask=batch[1] > 0) + 0.1 * loops.mean_loss(losses), predictions

    def ignoring(model, batch, training=True):
        predictions = model(batch[0], training=training)
        ignores = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
        return ignores(batch[1], predictions), predictions

    for loss in (of_keras, by_hand, by_mean_loss, masked, ignoring):
        equal(strategy, loss=loss, make=lambda: dense(kernel_regularizer="l2"), metrics=("accuracy",))


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


@cell
def convolutions(strategy):
    def make():
        convolution = L.Conv2D(4, 3, activation="relu", name="conv")
        return keras.Sequential(
            [keras.Input((6, 6, 1)), convolution, L.MaxPooling2D(), L.Flatten(), L.Dense(3)]
        )

    equal(strategy, make=make, x=IMAGES)


@cell
def a_metric_that_a_layer_holds(strategy):
    class Holds(L.Layer):
        def __init__(self):
            super().__init__()
            self.level = keras.metrics.Mean(name="level")

        def call(self, x):
            self.level.update_state(x)
            return x

    equal(strategy, make=lambda: keras.Sequential([keras.Input((6,)), Holds(), L.Dense(3)]), evaluated=True)


@cell
def a_model_that_asks_for_the_number_of_examples(strategy):
    class Asks(L.Layer):
        def call(self, x):
            return tf.concat([x[n : n + 1] for n in range(x.shape[0])], 0)

    found = []
    for where in (None, strategy):
        keras.utils.set_random_seed(0)
        with where.scope() if where else tf.name_scope(""):
            asks = Asks()
            model = keras.Sequential([keras.Input((6,), batch_size=16), asks, L.Dense(3)])
            step = loops.TrainStep(model, DIGITS, K.SGD(0.1))
        losses = step.run(iter(loops.Batches(X, Y, 16, shuffle=False)), 3)["loss"]
        found.append({"losses": losses, "kernel": model.layers[-1].kernel.numpy()})
    same(*found)
