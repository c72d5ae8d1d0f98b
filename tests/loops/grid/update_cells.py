"""Cells of the grid whose matter is the update: clipping, accumulation, optimizers, groups, unfreezing."""

from __future__ import annotations

import contextlib
from unittest import mock

import keras
import tensorflow as tf

from gradloop import loops, optim

from .harness import (
    DIGITS,
    WORDS,
    K,
    L,
    X,
    Y,
    cell,
    dense,
    equal,
    further,
    per_replica_count,
    policy,
    run,
    same,
)


@per_replica_count
def clip_by_the_norm_of_the_step(strategy):
    equal(strategy, clip_norm=0.05)


@cell
def clip_by_the_optimizers_own_settings(strategy):
    for setting in ({"clipnorm": 0.05}, {"global_clipnorm": 0.05}, {"clipvalue": 0.005}):
        equal(strategy, optimizer=lambda model, setting=setting: K.SGD(0.1, momentum=0.5, **setting))


@per_replica_count
def accumulate_3(strategy):
    equal(strategy, optimizer=lambda model: K.SGD(0.1, momentum=0.9), accumulate=3)


@per_replica_count
def short_batches_count_for_what_they_hold(strategy):
    """20, 20 and 1, fewer than there are replicas, are the 41 at once."""
    whole = run(None, epochs=1, batch=41)
    same(run(strategy, epochs=1, batch=20, accumulate=3), whole)
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return  # refuses plain arrays in a loop of one's own
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = dense()
        update = loops.Update(K.SGD(0.1), model.trainable_variables, accumulate=3)

        @loops.replicated
        def step(x, y):
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=True))
                loss = loops.mean_loss(losses)
            update(tape.gradient(loss, update.variables), weight=tf.size(y))

    for first in (0, 20, 40):
        step(X[first : first + 20], Y[first : first + 20])
    del whole["logged loss"]
    same({name: v.numpy() for name, v in optim.named_variables(model).items()}, whole)


@cell
def accumulate_under_an_optimizer_of_keras(strategy):
    equal(strategy, optimizer=lambda model: K.Adamax(0.001), accumulate=3)


@cell
def averages_of_the_weights(strategy):
    equal(strategy, optimizer=lambda model: K.SGD(0.1, use_ema=True, ema_momentum=0.9), evaluated=True)
    equal(
        strategy, optimizer=lambda model: grouped(model, K.SGD(0.1, use_ema=True, ema_overwrite_frequency=5))
    )


@per_replica_count
def a_rate_by_the_number_of_the_batch(strategy):
    """The count of batches, read in the step: 0, 1, 2, ... on every replica."""
    steps = []

    class Trained(loops.StepsCallback):
        def set_train_step(self, step):
            steps.append(step)

    def rate():
        return 0.1 / (1.0 + tf.cast(steps[-1].batches_done, "float64"))

    equal(strategy, optimizer=lambda model: K.SGD(rate), epochs=4, callbacks=lambda: [Trained()])
    assert [int(step.batches_done.numpy()) for step in steps] == [12, 12]


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


@further
def groups_of_rates_by_keras_own_step(strategy):
    equal(strategy, optimizer=lambda model: grouped(model, K.Lion(1e-4)), epochs=8)


@cell
def gradual_unfreezing(strategy):
    by_step = {0: "last", 20: all}  # in the middle of an epoch of three batches
    equal(strategy, callbacks=lambda: [loops.Unfreeze(by_step, by="step")], epochs=10)


@further
def gradual_unfreezing_by_epochs(strategy):
    stages = {0: "last", 4: "first/kernel", 8: all}
    equal(strategy, callbacks=lambda: [loops.Unfreeze(stages)], epochs=12)


def linear():
    return keras.Sequential([keras.Input((6,)), L.Dense(3, name="last")])


# Of those whose update looks at a whole variable, or at a number that all have in common, one of each kind. A
# kernel is in other cells, and goes over elements as the others do.
KINDS = {"Adafactor", "Muon", "Nadam"}


@cell
def optimizers_of_each_kind(strategy):
    each_optimizer(strategy, [name for name in optimizers() if name in KINDS])


@further
def the_other_optimizers(strategy):
    each_optimizer(strategy, [name for name in optimizers() if name not in KINDS])


def each_optimizer(strategy, names):
    # Where a gradient is near zero, its sign is a matter of rounding to those that divide by its size: their
    # 100 steps need float64. Muon refuses it by itself, and has small steps of float32, 15 of them.
    rates = {"Adadelta": 1.0, "Adagrad": 0.01, "Ftrl": 0.01, "SGD": 0.05}
    failed = []
    for name in names:

        def make(model, name=name):
            return getattr(K, name)(rates.get(name, 0.01 if name != "Muon" else 1e-4))

        try:
            if name == "Muon":
                with policy("float32"):
                    equal(strategy, 2e-6, 1e-3, make=linear, optimizer=make, epochs=5)
            else:
                equal(strategy, least=1e-3, make=linear, optimizer=make)
        except Exception as error:
            failed.append(f"{name}: {str(error)[:200]}")
    assert not failed, failed


def of_two_dtypes():
    first = L.Dense(8, "tanh", name="first")
    return keras.Sequential([keras.Input((6,)), first, L.Dense(3, name="last", dtype="float32")])


@cell
def layers_of_two_dtypes(strategy):
    equal(strategy, make=of_two_dtypes, optimizer=lambda model: K.SGD(0.1, momentum=0.5), clip_norm=0.05)
    equal(strategy, make=of_two_dtypes, optimizer=lambda model: grouped(model, K.SGD(0.1)), epochs=10)


@further
def layers_of_two_dtypes_by_keras_own_step(strategy):
    equal(strategy, make=of_two_dtypes, optimizer=lambda model: K.Nadam(1e-3), epochs=10)


def optimizers():
    """The names of Keras' own optimizers, those aside that wrap others."""
    wrapping = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "LookaheadOptimizer"}
    classes = [name for name in dir(K) if isinstance(getattr(K, name), type)]
    kinds = [name for name in classes if issubclass(getattr(K, name), K.Optimizer)]
    failing = {"Muon"} if keras.__version__.startswith("3.12.") else set()  # by itself, on a bias
    return [name for name in kinds if name not in wrapping | failing]


def with_a_table():
    table = L.Embedding(5, 4, name="table")
    return keras.Sequential([keras.Input((4,), dtype="int32"), table, L.Flatten(), L.Dense(3)])


@cell
def rows_of_a_table(strategy):
    table = {"make": with_a_table, "x": WORDS, "epochs": 10}
    equal(strategy, **table, optimizer=lambda model: K.Adam(1e-4), clip_norm=0.1)
    equal(strategy, **table, optimizer=lambda model: K.Adamax(1e-4))


@further
def rows_of_a_table_by_gradient_descent(strategy):
    equal(strategy, make=with_a_table, x=WORDS)


@per_replica_count
def one_reduction_an_update(strategy):
    counted = {name: getattr(tf.distribute.CrossDeviceOps, name) for name in ("batch_reduce", "reduce")}
    calls = []

    def counting(name):
        def reduce(*args, **kwargs):
            calls.append(name)
            return counted[name](*args, **kwargs)

        return reduce

    for make in (lambda: K.SGD(0.1), lambda: K.Adam(1e-3), lambda: K.Nadam(1e-3)):
        # In the dtype of what is logged, as each dtype is a reduction of its own.
        with strategy.scope(), policy("float32"):
            step = loops.TrainStep(dense(), DIGITS, make(), metrics=["accuracy"], clip_norm=1.0)
        calls.clear()
        with contextlib.ExitStack() as stack:
            for name in counted:
                stack.enter_context(mock.patch.object(tf.distribute.CrossDeviceOps, name, counting(name)))
            step.run(iter(loops.Batches(X, Y, 16)), 3)
        wanted = ["batch_reduce"] if strategy.num_replicas_in_sync > 1 else []
        assert calls == wanted, f"reduced by {calls}"
