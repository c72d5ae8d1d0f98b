"""The cells of the grid: each trains on one device and on replicas, and returns what both gave.

`python cells.py REPLICAS` runs all of them, in a process that may make logical devices, and prints JSON: the
name of each cell and, for a cell that fails, why. `python cells.py workers` runs them on the workers that
TF_CONFIG lists.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import traceback
import warnings
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

CPU = tf.config.list_physical_devices("CPU")[0]
if __name__ == "__main__" and sys.argv[1] != "workers":
    tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 8)

from gradloop import loops, optim  # noqa: E402

K, L = keras.optimizers, keras.layers
RNG = np.random.default_rng(0)
# 41 examples in batches of 16: two whole ones and a short one of 9.
X = RNG.standard_normal((41, 6)).astype("float32")
Y = RNG.integers(0, 3, 41)
WEIGHT = RNG.random(41).astype("float32")
WORDS = RNG.integers(0, 5, (41, 4))
IMAGES = RNG.standard_normal((41, 6, 6, 1)).astype("float32")
DIGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CELLS: dict[str, Any] = {}


def cell(function):
    CELLS[function.__name__.replace("_", " ")] = function
    return function


def mirrored(replicas):
    return tf.distribute.MirroredStrategy(
        [f"/cpu:{index}" for index in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def dense(**options):
    return keras.Sequential(
        [keras.Input((6,)), L.Dense(8, "tanh", name="first", **options), L.Dense(3, name="last", **options)]
    )


def run(
    strategy, make=dense, optimizer=lambda model: K.SGD(0.1), *, x=X, y=Y, weight=None, loss=DIGITS, batch=16,
    epochs=34, metrics=(), callbacks=list, between=None, evaluated=False, transform=None, **options,
):  # fmt: skip
    """Trains about 100 steps; returns everything that is to be the same everywhere.

    Metrics, and an evaluation after each epoch, are for the cells whose matter they are: each is traced once
    more for every replica.
    """
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else tf.name_scope(""):
        model = make()
        made = [metric() if callable(metric) else metric for metric in metrics]
        step = loops.TrainStep(model, loss, optimizer(model), metrics=made, **options)
    data = loops.Batches(x, y, batch, sample_weight=weight, transform=transform)
    test = loops.Batches(x, y, 9, shuffle=False) if evaluated else None
    history = loops.train(step, data, epochs=epochs, validation=test, callbacks=callbacks()).history
    if between is None and not callbacks():
        assert step.traces == 1, f"{step.traces} traces"
    elif between is not None:
        between(step)
        more = loops.train(step, data, epochs=epochs, validation=test).history
        history = {name: values + more[name] for name, values in history.items()}
    weights = {name: v.numpy() for name, v in optim.named_variables(model).items()}
    return {**weights, **{f"logged {name}": np.array(values) for name, values in history.items()}}


def one_step(step, x, y):
    """One step on the examples in their order; `step(x, y)` is not for several workers."""
    return step.run(iter(loops.Batches(x, y, len(x), shuffle=False)), 1)["loss"][0]


def same(one, other, tolerance=1e-6, least=1e-3):
    """Each array to the tolerance, relative to its largest entry or to `least`."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if np.issubdtype(value.dtype, np.floating):
            limit = tolerance * max(float(np.abs(value).max()), least)
            difference = float(np.abs(value - other[name]).max())
            assert difference <= limit, f"{name}: {difference:.1e} apart, {limit:.1e} allowed"


def equal(strategy, tolerance=1e-6, **options):
    # A bias is the sum of 100 gradients, which float32 rounds at their own size, however small it ends.
    same(run(None, **options), run(strategy, **options), tolerance, least=0.1)


@cell
def plain(strategy):
    equal(strategy, metrics=("accuracy",), evaluated=True)


@cell
def clip_by_the_norm_of_the_step(strategy):
    equal(strategy, clip_norm=0.05)


@cell
def clip_by_the_optimizers_own_settings(strategy):
    for setting in ({"clipnorm": 0.05}, {"global_clipnorm": 0.05}, {"clipvalue": 0.005}):
        equal(strategy, optimizer=lambda model, setting=setting: K.SGD(0.1, momentum=0.5, **setting))


@cell
def accumulate_3(strategy):
    equal(strategy, optimizer=lambda model: K.SGD(0.1, momentum=0.9), accumulate=3)


@cell
def accumulate_under_an_optimizer_of_keras(strategy):
    equal(strategy, optimizer=lambda model: K.Adamax(0.001), accumulate=3)


@cell
def a_transform_that_draws_at_random(strategy):
    def noisy(x, y, seed):
        return x + tf.random.stateless_normal(tf.shape(x), seed), y

    equal(strategy, transform=noisy)


@cell
def a_bad_gradient_is_named(strategy):
    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        return  # an error on several workers ends their reductions for good
    with strategy.scope():
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


@cell
def L1_and_L2(strategy):
    equal(strategy, make=lambda: dense(kernel_regularizer=keras.regularizers.L1L2(1e-3, 1e-2)))


def normalised(synchronized):
    layer = L.BatchNormalization(synchronized=synchronized, momentum=0.9, name="norm")
    return keras.Sequential([keras.Input((6,)), L.Dense(8, use_bias=False, name="first"), layer, L.Dense(3)])


@cell
def BatchNorm_synchronised(strategy):
    # Keras takes the variance as E[x^2] - E[x]^2 where one device takes E[(x - E[x])^2].
    equal(strategy, 1e-5, make=lambda: normalised(True), evaluated=True)


@cell
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
    said = [str(one.message) for one in caught if "synchronized=True" in str(one.message)]
    assert len(said) == (replicas > 1), said
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


@cell
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


@cell
def a_last_batch_smaller_than_the_replicas(strategy):
    equal(strategy, batch=20, weight=WEIGHT, evaluated=True)  # 41 = 20 + 20 + 1
    entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    penalised = {"make": lambda: dense(kernel_regularizer="l2"), "metrics": ("accuracy", "mae")}
    equal(strategy, batch=38, y=np.eye(3, dtype="float32")[Y], loss=entropy, **penalised)


@cell
def mixed_float16_with_an_infinity_on_one_replica(strategy):
    found = []
    for where in (None, strategy):
        keras.utils.set_random_seed(0)
        with where.scope() if where else tf.name_scope(""):
            keras.config.set_dtype_policy("mixed_float16")
            model = dense()
            keras.config.set_dtype_policy("float32")
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


@cell
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


@cell
def averages_of_the_weights(strategy):
    equal(strategy, optimizer=lambda model: K.SGD(0.1, use_ema=True, ema_momentum=0.9), evaluated=True)
    equal(
        strategy, optimizer=lambda model: grouped(model, K.SGD(0.1, use_ema=True, ema_overwrite_frequency=5))
    )


@cell
def a_schedule_with_accumulation(strategy):
    equal(strategy, optimizer=lambda model: K.SGD(K.schedules.CosineDecay(0.1, 30)), accumulate=2)


def grouped(model, optimizer):
    groups = {
        "kernel": optim.Group("first/kernel", lr_scale=0.1),
        "bias": optim.Group("first/bias", frozen=True),
        "last": optim.Group("last", weight_decay=0.01),
    }
    return optim.GroupedOptimizer(optimizer, optim.partition(model, groups))


@cell
def groups_of_rates_one_frozen(strategy):
    def unfreeze(step):
        step.optimizer.unfreeze("bias")
        step.optimizer.rescale("kernel", 0.5)

    made = {"optimizer": lambda model: grouped(model, K.SGD(0.1, momentum=0.5)), "between": unfreeze}
    equal(strategy, **made, epochs=17)
    equal(strategy, optimizer=lambda model: grouped(model, K.Lion(1e-4)), epochs=8)


@cell
def another_choice_on_the_way(strategy):
    equal(strategy, between=lambda step: step.train_only("last"), epochs=10)


@cell
def gradual_unfreezing(strategy):
    stages = {0: "last", 4: "first/kernel", 8: all}
    equal(strategy, callbacks=lambda: [loops.Unfreeze(stages)], epochs=12)
    by_step = {0: "last", 20: all}  # in the middle of an epoch of three batches
    equal(strategy, callbacks=lambda: [loops.Unfreeze(by_step, by="step")], epochs=10)


def linear(dtype="float32"):
    return keras.Sequential([keras.Input((6,), dtype=dtype), L.Dense(3, name="last", dtype=dtype)])


@cell
def every_optimizer(strategy):
    # Where a gradient is near zero, its sign is a matter of rounding to those that divide by its size; near
    # 1e-6 it is, after some steps, to all of them. So the 100 steps are in float64, which leaves rounding
    # out; float32 has small rates and 15 steps, on two replicas here, as each is a trace for every replica.
    rates = {"Adadelta": 1.0, "Adagrad": 0.01, "Ftrl": 0.01, "SGD": 0.05}
    failed = []
    for name in optimizers():

        def make(model, name=name):
            return getattr(K, name)(rates.get(name, 1e-4))

        def make_double(model, name=name):
            return getattr(K, name)(rates.get(name, 0.01))

        refuses = name == "Muon"  # by itself, float64
        try:
            if refuses or len(strategy.extended.worker_devices) == 2:
                equal(strategy, make=linear, optimizer=make, epochs=5, tolerance=2e-6)
            if not refuses:
                double = {"make": lambda: linear("float64"), "x": X.astype("float64")}
                equal(strategy, **double, optimizer=make_double)
        except Exception as error:
            failed.append(f"{name}: {str(error)[:200]}")
    assert not failed, failed


@cell
def layers_of_two_dtypes(strategy):
    def make():
        first = L.Dense(8, "tanh", name="first", dtype="float64")
        return keras.Sequential([keras.Input((6,)), first, L.Dense(3, name="last", dtype="float32")])

    equal(strategy, make=make, optimizer=lambda model: K.SGD(0.1, momentum=0.5))
    equal(strategy, make=make, optimizer=lambda model: K.Nadam(1e-3), epochs=10)
    equal(strategy, make=make, optimizer=lambda model: grouped(model, K.SGD(0.1)), epochs=10)


def optimizers():
    """The names of Keras' own optimizers, those aside that wrap others."""
    wrapping = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "LookaheadOptimizer"}
    classes = [name for name in dir(K) if isinstance(getattr(K, name), type)]
    kinds = [name for name in classes if issubclass(getattr(K, name), K.Optimizer)]
    failing = {"Muon"} if keras.__version__.startswith("3.12.") else set()  # by itself, on a bias
    return [name for name in kinds if name not in wrapping | failing]


@cell
def rows_of_a_table(strategy):
    def make():
        table = L.Embedding(5, 4, name="table")
        return keras.Sequential([keras.Input((4,), dtype="int32"), table, L.Flatten(), L.Dense(3)])

    equal(strategy, make=make, x=WORDS)
    equal(strategy, make=make, x=WORDS, optimizer=lambda model: K.Adam(1e-4), clip_norm=0.1, epochs=10)
    equal(strategy, make=make, x=WORDS, optimizer=lambda model: K.Adamax(1e-4), epochs=10)


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

    for loss in (of_keras, by_hand, by_mean_loss):
        equal(strategy, loss=loss, make=lambda: dense(kernel_regularizer="l2"), metrics=("accuracy",))


@cell
def a_loop_of_ones_own(strategy):
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
def one_reduction_an_update(strategy):
    counted = {name: getattr(tf.distribute.CrossDeviceOps, name) for name in ("batch_reduce", "reduce")}
    calls = []

    def counting(name):
        def reduce(*args, **kwargs):
            calls.append(name)
            return counted[name](*args, **kwargs)

        return reduce

    for make in (lambda: K.SGD(0.1), lambda: K.Adam(1e-3), lambda: K.Nadam(1e-3)):
        with strategy.scope():
            step = loops.TrainStep(dense(), DIGITS, make(), metrics=["accuracy"], clip_norm=1.0)
        calls.clear()
        with contextlib.ExitStack() as stack:
            for name in counted:
                stack.enter_context(mock.patch.object(tf.distribute.CrossDeviceOps, name, counting(name)))
            step.run(iter(loops.Batches(X, Y, 16)), 3)
        wanted = ["batch_reduce"] if strategy.num_replicas_in_sync > 1 else []
        assert calls == wanted, f"reduced by {calls}"


def main(where):
    found = {}
    workers = tf.distribute.MultiWorkerMirroredStrategy() if where == "workers" else None
    for name, function in CELLS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(workers or mirrored(int(where)))
        except Exception:
            found[name] = traceback.format_exc(limit=-3)[-1500:]
        else:
            found[name] = None
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
