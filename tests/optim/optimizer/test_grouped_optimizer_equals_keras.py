"""One group equals the bare optimizer, for all of `keras.optimizers`."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import Group, GroupedOptimizer, partition

K = keras.optimizers
STEPS = 100
WRAPPERS = {"Optimizer", "MultiOptimizer", "LossScaleOptimizer"}
# Enumerated, so that a test runs for an optimizer that a new Keras brings.
STOCK = sorted(
    name
    for name, item in vars(K).items()
    if inspect.isclass(item) and issubclass(item, K.Optimizer) and name not in WRAPPERS
)
# Keras 3.12's Muon, of one weight decay, fails with TensorFlow whatever it is given.
NEW_MUON = "adam_weight_decay" in K.Muon().get_config()
WORKING = [name for name in STOCK if name != "Muon" or NEW_MUON]
FUSED = {"SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW"}

SHAPES = {"matrix": (4, 3), "rows": (5, 2), "vector": (3,)}  # `rows` gets sparse gradients
GIVEN = {"matrix": (4, 3), "rows": (2, 2), "vector": (3,)}
FLOAT32 = [(kind, "float32") for kind in SHAPES]
ALL = [*FLOAT32, ("matrix", "bfloat16"), ("rows", "float16")]
EVERYTHING = {
    "weight_decay": 0.05,
    "use_ema": True,
    "ema_momentum": 0.9,
    "ema_overwrite_frequency": 7,
}


class Weights(keras.layers.Layer):
    """Variables by kind and dtype, the same each time."""

    def __init__(self, wanted):
        super().__init__()
        random = np.random.RandomState(0)
        for kind, dtype in wanted:
            name = f"{kind}_{dtype}"
            value = random.standard_normal(SHAPES[kind]).astype("float32")
            setattr(self, name, keras.Variable(value, dtype=dtype, name=name))
        self.built = True


def gradients(wanted):
    random = np.random.RandomState(1)
    return [random.standard_normal((STEPS, *GIVEN[kind])).astype("float32") for kind, _ in wanted]


def wrapped(optimizer, weights, lr_scale=1.0):
    return GroupedOptimizer(optimizer, partition(weights, {"all": Group("*", lr_scale=lr_scale)}))


def trained(make_optimizer, wanted=FLOAT32):
    """Weights, and averages if there are any, after 100 given gradients: name -> float64 array."""
    weights = Weights(wanted)
    variables = weights.trainable_variables
    optimizer = make_optimizer(weights)
    optimizer.build(variables)

    def gradient(step, given, kind, dtype):
        values = tf.cast(given[step], dtype)
        if kind != "rows":
            return values
        return tf.IndexedSlices(values, tf.stack([step % 5, (step + 2) % 5]), tf.constant(SHAPES[kind]))

    @tf.function(autograph=False)
    def run(stacks):
        def body(step):
            given = [gradient(step, stack, *which) for stack, which in zip(stacks, wanted)]
            optimizer.apply(given, variables)
            return step + 1

        tf.while_loop(lambda step: step < STEPS, body, [0])

    run(gradients(wanted))
    found = {v.name: v.numpy().astype("float64") for v in variables}
    if optimizer.use_ema:
        averages = optimizer._model_variables_moving_average
        found |= {f"{v.name} average": a.numpy().astype("float64") for v, a in zip(variables, averages)}
    return found, optimizer


def assert_equal(make, wanted=FLOAT32, make_ours=None):
    """Ours equals Keras: within 1e-6 where a fused kernel runs, to the bit where Keras' own step does.

    The bare optimizer itself makes NaN of some 16-bit variables (Nadam in bfloat16, whose 0.999 is 1); ours
    then makes the same NaN.

    Args:
        make: the bare optimizer.
        wanted: kinds and dtypes of variables.
        make_ours: from the weights; None for one group at scale 1.
    """
    expected, bare = trained(lambda _: make(), wanted)
    found, ours = trained(make_ours or (lambda weights: wrapped(make(), weights)), wanted)
    for name, want in expected.items():
        close = type(bare).__name__ in FUSED and "float32" in name
        atol = 1e-6 * np.abs(want).max() if close else 0
        np.testing.assert_allclose(found[name], want, rtol=0, atol=atol, err_msg=name)
        assert np.isfinite(want).all() or "float32" not in name
    return ours


@pytest.mark.versions
@pytest.mark.parametrize("name", WORKING)
def test_default_settings(name):
    ours = assert_equal(lambda: getattr(K, name)(learning_rate=0.05), ALL)
    assert int(ours.iterations.numpy()) == STEPS


# One kernel, and one that Keras updates; what the others do by themselves, they do above.
ALWAYS = {"Adam", "Lion"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.long) for name in WORKING],
)
def test_scale_schedule_decay_and_averages(name):
    """A scale of 1/4 is a rate a quarter as large."""

    def make(rate):
        return getattr(K, name)(K.schedules.ExponentialDecay(rate, 10, 0.8), **EVERYTHING)

    # Keras' Muon cannot decay 16-bit variables.
    wanted = [("rows", "float32"), ("matrix", "float32" if name == "Muon" else "float16")]
    ours = assert_equal(lambda: make(0.05), wanted, lambda weights: wrapped(make(0.2), weights, 0.25))
    assert ours.learning_rates == pytest.approx({"all": 0.05 * 0.8**10})


SETTINGS = {
    "momentum": lambda: K.SGD(0.05, momentum=0.9),
    "nesterov": lambda: K.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "centered": lambda: K.RMSprop(0.05, centered=True, rho=0.99),
    "rms momentum": lambda: K.RMSprop(0.05, momentum=0.9, rho=0.999),
    "rms both": lambda: K.RMSprop(0.05, momentum=0.9, centered=True, epsilon=1e-3),
    "adadelta": lambda: K.Adadelta(1.0, rho=0.999),
    "adagrad from 0": lambda: K.Adagrad(0.05, initial_accumulator_value=0.0),
    "adam betas": lambda: K.Adam(0.05, beta_1=0.5, beta_2=0.99, epsilon=1e-3, use_ema=True),
    "adam slow": lambda: K.Adam(0.05, beta_2=0.9999),
    "amsgrad": lambda: K.Adam(0.05, amsgrad=True),
    "adamw amsgrad": lambda: K.AdamW(0.05, amsgrad=True, weight_decay=0.1),
    "adafactor": lambda: K.Adafactor(0.05, relative_step=False),
    "clip by norm": lambda: K.SGD(0.05, clipnorm=0.5),
    "clip by value": lambda: K.Adam(0.05, clipvalue=0.5),
    "clip by all": lambda: K.SGD(0.05, global_clipnorm=0.5),
}


# Other numbers for the same kernel, and what others of these have as well.
ON_REQUEST = {
    "adadelta",
    "adagrad from 0",
    "adam slow",
    "rms momentum",
    "adamw amsgrad",
    "clip by norm",
    "clip by value",
}


@pytest.mark.parametrize(
    "settings",
    [pytest.param(each, marks=pytest.mark.long if each in ON_REQUEST else ()) for each in SETTINGS],
)
def test_other_settings(settings):
    assert_equal(SETTINGS[settings])


@pytest.mark.skipif(not NEW_MUON, reason="Muon of this Keras has one decay")
def test_muon_of_one_decay():
    assert_equal(lambda: K.Muon(0.05, weight_decay=None, adam_weight_decay=0.5))


def test_loss_scale():
    wanted = [("matrix", "float32"), ("vector", "float16")]  # Keras cannot divide sparse gradients
    assert_equal(lambda: K.Adam(0.05, loss_scale_factor=8.0), wanted)


@pytest.mark.versions
@pytest.mark.parametrize("name", STOCK)
def test_fused_where_tensorflow_has_a_kernel(name):
    optimizer = wrapped(getattr(K, name)(), Weights(FLOAT32))
    assert optimizer.fused == (name in FUSED)


@pytest.mark.parametrize("settings", ["momentum", "nesterov", "centered", "rms momentum", "rms both"])
def test_fused_with_these_settings_too(settings):
    assert wrapped(SETTINGS[settings](), Weights(FLOAT32)).fused


def test_not_fused():
    class Mine(K.SGD):
        pass

    assert not wrapped(Mine(), Weights(FLOAT32)).fused
    assert not wrapped(K.Adam(amsgrad=True), Weights(FLOAT32)).fused
    assert not wrapped(K.SGD(), Weights(ALL)).fused
    assert not wrapped(K.SGD(), Weights([("matrix", "float16")])).fused
    assert wrapped(K.SGD(), Weights([("matrix", "float64")])).fused


@pytest.mark.parametrize(
    "settings",
    [  # each is in float32 above
        "rms both",
        pytest.param("momentum", marks=pytest.mark.release),
        *(pytest.param(each, marks=pytest.mark.long) for each in ("adam slow", "adadelta", "adagrad from 0")),
    ],
)
def test_float64(settings):
    wanted = [(kind, "float64") for kind in SHAPES]
    expected, _ = trained(lambda _: SETTINGS[settings](), wanted)
    found, ours = trained(lambda weights: wrapped(SETTINGS[settings](), weights), wanted)
    assert ours.fused
    for name, want in expected.items():
        np.testing.assert_allclose(found[name], want, rtol=0, atol=1e-6 * np.abs(want).max(), err_msg=name)


@pytest.mark.versions
@pytest.mark.parametrize("name", STOCK)
def test_no_more_state_than_keras(name):
    def size(optimizer):
        return sum(v.numpy().nbytes for v in optimizer.variables)

    for options in ({}, {"use_ema": True}, {"gradient_accumulation_steps": 2}):
        weights = Weights(ALL)
        bare = getattr(K, name)(**options)
        bare.build(weights.trainable_variables)
        ours = wrapped(getattr(K, name)(**options), weights)
        # Keras has one counter for all.
        calls = 8 if "gradient_accumulation_steps" in options else 0
        counts = sum(v.numpy().nbytes for v in ours.grouped_update.counts.variables().values())
        assert size(ours) <= size(bare) + calls + counts


def test_a_subclass_is_updated_by_its_own_step():
    class Signs(K.SGD):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, learning_rate * tf.sign(gradient))

    weights = Weights([("vector", "float32")])
    before = weights.vector_float32.numpy()
    wrapped(Signs(0.5), weights).apply([tf.constant([3.0, -2.0, 0.0])])
    np.testing.assert_array_equal(weights.vector_float32.numpy(), before - [0.5, -0.5, 0])
