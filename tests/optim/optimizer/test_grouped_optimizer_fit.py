"""In compile and fit: callbacks, freezing, XLA, loss scaling, averages."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import optim
from gradloop.optim import Group, GroupedOptimizer, partition

pytestmark = pytest.mark.numbers

K = keras.optimizers
L = keras.layers
TOKENS = np.random.RandomState(0).randint(0, 6, (16, 3))
Y = np.random.RandomState(1).standard_normal((16, 2)).astype("float32")


def net():
    """With a sparse gradient, whose rows repeat."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            L.Embedding(6, 4, name="table"),
            L.Flatten(),
            L.Dense(5, activation="tanh", name="body"),
            L.Dense(2, name="head"),
        ]
    )


def compiled(optimizer, groups=None, wrap=lambda o: o, **options):
    """The model and its optimizer: ours with groups, the bare one without."""
    model = net()
    if groups is not None:
        optimizer = GroupedOptimizer(optimizer, partition(model, groups))
    model.compile(wrap(optimizer), "mse", **options)
    return model, optimizer


def fit(model, epochs=2, **options):
    return model.fit(TOKENS, Y, batch_size=8, shuffle=False, verbose=0, epochs=epochs, **options)


def weights(model):
    return [v.numpy() for v in model.trainable_variables]


def assert_close(found, expected, atol=1e-6):
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


GROUPS = {"table": Group("table", lr_scale=0.5), "body": Group("body", lr_scale=0.1), "head": "head"}


def halved(epoch, rate):
    return 0.5 * rate


def test_a_learning_rate_scheduler():
    model, optimizer = compiled(K.SGD(0.8), GROUPS)
    fit(model, 3, callbacks=[keras.callbacks.LearningRateScheduler(halved)])
    assert optimizer.learning_rates == pytest.approx({"table": 0.05, "body": 0.01, "head": 0.1})


def test_reduce_on_plateau():
    model, optimizer = compiled(K.SGD(0.8), GROUPS)
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=1e9)
    history = fit(model, 3, callbacks=[callback])
    assert history.history["learning_rate"] == pytest.approx([0.8, 0.8, 0.4])
    assert optimizer.learning_rates == pytest.approx({"table": 0.1, "body": 0.02, "head": 0.2})


class FreezeAfter(keras.callbacks.Callback):
    def __init__(self, batch, group):
        super().__init__()
        self.batch, self.group, self.seen = batch, group, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.get_layer(self.group).kernel.numpy())
        if len(self.seen) == self.batch:
            self.model.optimizer.freeze(self.group)


@pytest.mark.parametrize(
    "make",
    [
        lambda: K.Adam(0.1),
        lambda: K.Lion(0.1),
        pytest.param(lambda: K.SGD(0.1, momentum=0.9), marks=pytest.mark.release),
    ],
)
def test_frozen_from_the_start_unfrozen_and_frozen_in_a_callback(make):
    groups = {**GROUPS, "body": Group("body", frozen=True)}
    model, optimizer = compiled(make(), groups)
    start = model.get_layer("body").kernel.numpy()
    fit(model)
    np.testing.assert_array_equal(model.get_layer("body").kernel, start)
    assert np.isfinite(np.concatenate([v.ravel() for v in weights(model)])).all()
    step = model.train_function
    optimizer.unfreeze("body")
    callback = FreezeAfter(2, "body")
    fit(model, callbacks=[callback])
    moved = [not np.array_equal(a, b) for a, b in zip([start, *callback.seen], callback.seen)]
    assert moved == [True, True, False, False]
    assert model.train_function is step


@pytest.mark.parametrize(
    "make",
    [
        lambda: K.AdamW(0.01, weight_decay=0.1, use_ema=True, ema_overwrite_frequency=3),
        pytest.param(
            lambda: K.SGD(0.1, momentum=0.9, nesterov=True, global_clipnorm=0.1), marks=pytest.mark.long
        ),
        pytest.param(lambda: K.RMSprop(0.01, centered=True), marks=pytest.mark.long),
        pytest.param(lambda: K.Lion(0.01), marks=pytest.mark.release),
    ],
)
def test_compiled_by_xla(make):
    """The same numbers; a frozen group stands still there too."""
    found = []
    for jit in (False, True):
        model, optimizer = compiled(make(), {**GROUPS, "body": Group("body", frozen=True)}, jit_compile=jit)
        start = model.get_layer("body").kernel.numpy()
        fit(model, 3)
        np.testing.assert_array_equal(model.get_layer("body").kernel, start)
        found.append(weights(model))
    assert_close(*found)


def test_fit_is_that_of_keras():
    """Of an optimizer that squares no gradient, as Keras is right then where rows of an embedding repeat."""
    found = [compiled(K.SGD(0.1, momentum=0.9), groups)[0] for groups in ({"all": "*"}, None)]
    for model in found:
        fit(model)
    assert_close(*map(weights, found))


def loss_scaled(optimizer):
    return K.LossScaleOptimizer(optimizer, initial_scale=64.0)


def applies(optimizer, variables):
    """A function that updates by gradients of one value."""
    return tf.function(lambda value: optimizer.apply([tf.fill(v.shape, value) for v in variables], variables))


def test_a_loss_scale_around_it():
    """Steps with gradients that overflow are left out, as with the bare optimizer."""
    found = []
    for groups in ({"all": "*"}, None):
        model, _ = compiled(K.Adam(0.01), groups, loss_scaled)
        optimizer, variables = model.optimizer, model.trainable_variables
        optimizer.build(variables)

        apply = applies(optimizer, variables)
        for scaled in (6.4, np.inf, 3.2):
            apply(tf.constant(scaled))
        assert int(optimizer.iterations.numpy()) == 2
        found.append(weights(model))
    assert_close(*found)


def test_the_rate_through_a_loss_scale():
    model, optimizer = compiled(K.Adam(0.01), GROUPS, loss_scaled)
    model.optimizer.learning_rate = 0.02
    assert optimizer.learning_rates == pytest.approx({"table": 0.01, "body": 0.002, "head": 0.02})
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)


def test_fit_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model, optimizer = compiled(K.Adam(0.01), GROUPS)
    assert isinstance(model.optimizer, K.LossScaleOptimizer)  # by Keras, around ours
    assert model.optimizer.inner_optimizer is optimizer
    before = weights(model)
    fit(model)
    assert int(optimizer.iterations.numpy()) == 4
    assert all(not np.array_equal(old, new) for old, new in zip(before, weights(model)))


class Weighed(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.during, self.after = [], []

    def on_test_begin(self, logs=None):
        self.during.append(weights(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.after.append(weights(self.model))


@pytest.mark.parametrize("make", [K.SGD, pytest.param(K.Lion, marks=pytest.mark.long)])
def test_swapping_in_the_averages(make):
    """For validation; at the end of fit, the weights are the averages."""
    found = []
    for groups in ({"head": "head", "others": ~optim.name("head")}, None):
        model, _ = compiled(make(0.1, use_ema=True, ema_momentum=0.6), groups)
        seen = Weighed()
        fit(model, validation_data=(TOKENS, Y), callbacks=[keras.callbacks.SwapEMAWeights(), seen])
        found.append([*sum(seen.during, []), *sum(seen.after, []), *weights(model)])
        assert not np.array_equal(seen.during[0][-1], seen.after[0][-1])
    assert_close(*found)


@pytest.mark.parametrize("make", [K.SGD, pytest.param(K.Lion, marks=pytest.mark.long)])
def test_swapping_leaves_alone_what_has_no_average_yet(make):
    groups = {"head": "head", "others": Group(~optim.name("head"), frozen=True)}
    model, optimizer = compiled(make(0.1, use_ema=True, ema_momentum=0.6), groups)
    seen = Weighed()
    frozen = [v.numpy() for v in optimizer.plan.frozen]
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    fit(model, validation_data=(TOKENS, Y), callbacks=[swap, seen])
    places = [[id(v) for v in model.weights].index(id(v)) for v in optimizer.plan.frozen]
    for when in [*seen.during, *seen.after, weights(model)]:
        for place, value in zip(places, frozen):
            np.testing.assert_array_equal(when[place], value)
    # Later they have averages of their own.
    optimizer.unfreeze("others")
    fit(model, validation_data=(TOKENS, Y), callbacks=[keras.callbacks.SwapEMAWeights(), seen])
    assert not any(np.array_equal(v, value) for v, value in zip(optimizer.plan.frozen, frozen))


def test_averages_become_the_weights_at_the_end():
    found = []
    for groups in ({"all": "*"}, None):
        model, _ = compiled(K.SGD(0.1, use_ema=True, ema_momentum=0.6), groups)
        fit(model)
        found.append(weights(model))
    assert_close(*found)


def test_in_a_hand_written_step():
    model, optimizer = compiled(K.SGD(0.1), GROUPS)
    variables = model.trainable_variables

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(TOKENS, training=True) - Y) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, [v.value for v in variables]), variables))
        return loss

    losses = [float(step()) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
