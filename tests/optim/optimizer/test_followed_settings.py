"""Settings that are changed after an optimizer was made act as on Keras' own, or are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.optim import Group, GroupedOptimizer, partition

K = keras.optimizers
MAKE = {
    "AdamW": lambda: K.AdamW(0.1, weight_decay=0.5),  # a fused kernel
    "Lion": lambda: K.Lion(0.1, weight_decay=0.5),
    "Muon": lambda: K.Muon(0.1, weight_decay=0.5),  # asks of another name, and of each variable
}


class Scale(keras.layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=(2, 2), initializer="ones", name="gamma")

    def call(self, inputs):
        return inputs @ self.gamma


def network():
    model = keras.Sequential([keras.Input((2,)), Scale(name="norm"), Scale(name="other")])
    return model, model.trainable_variables


def grouped(model, common, **norm):
    return GroupedOptimizer(common, partition(model, {"norm": Group("norm", **norm), "other": "other"}))


def change(what, optimizer):
    if what == "weight_decay":
        optimizer.weight_decay = 0.25
    else:
        optimizer.exclude_from_weight_decay(var_names=[what])


def update_after(make, prepare):
    """The weights after one update by gradients of zero."""
    model, variables = network()
    update = prepare(make(), model, variables)
    update([tf.zeros((2, 2)), tf.zeros((2, 2))])
    return [float(variable.numpy()[0, 0]) for variable in variables]


def keras_alone(what):
    def prepare(optimizer, _, variables):
        change(what, optimizer)
        optimizer.build(variables)
        return optimizer.apply

    return prepare


def of_update(what):
    def prepare(optimizer, _, variables):
        update = loops.Update(optimizer, variables)
        change(what, optimizer)
        return update

    return prepare


def of_grouped(what):
    def prepare(optimizer, model, _):
        optimizer = grouped(model, optimizer)
        change(what, optimizer)
        return optimizer.apply

    return prepare


def of_grouped_again(what):
    def prepare(optimizer, model, variables):
        optimizer = grouped(model, optimizer)
        update = loops.Update(optimizer, variables)
        update([tf.zeros((2, 2)), tf.zeros((2, 2))])
        for variable in variables:
            variable.assign(tf.ones((2, 2)))
        change(what, optimizer)
        return update

    return prepare


def of_a_groups_own(what):
    def prepare(optimizer, model, _):
        outer = GroupedOptimizer(K.SGD(0.1), partition(model, {"all": Group("*", optimizer=optimizer)}))
        change(what, optimizer)
        return outer.apply

    return prepare


WHAT = ["norm", "gamma", "weight_decay"]
HOW = [of_update, of_grouped, of_grouped_again, of_a_groups_own]


@pytest.mark.parametrize(
    "name, what, how",
    [  # each pair of two of the three always
        pytest.param(name, what, how, marks=() if k == (i + j) % 3 else pytest.mark.long)
        for i, name in enumerate(MAKE)
        for j, how in enumerate(HOW)
        for k, what in enumerate(WHAT)
    ],
)
def test_decay_that_is_changed_later(name, what, how):
    expected = update_after(MAKE[name], keras_alone(what))
    np.testing.assert_allclose(update_after(MAKE[name], how(what)), expected, rtol=1e-6)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_step_follows_what_is_set_between_its_calls(wrap):
    model, variables = network()
    optimizer = K.SGD(0.5, weight_decay=1.0)
    if wrap:
        optimizer = grouped(model, optimizer)
    step = loops.TrainStep(model, lambda model, batch: tf.reduce_sum(model(batch[0])), optimizer)
    x, state = np.zeros((1, 2), "float32"), []
    for set_next in (
        lambda: setattr(optimizer, "weight_decay", 0.5),
        lambda: optimizer.exclude_from_weight_decay(var_names=["norm"]),
        lambda: setattr(optimizer, "learning_rate", K.schedules.PiecewiseConstantDecay([1], [9.0, 1.0])),
        lambda: None,
    ):
        step(x)
        state.append([float(variable.numpy()[0, 0]) for variable in variables])
        set_next()
    step(x)
    assert state == [[0.5, 0.5], [0.375, 0.375], [0.375, 0.28125], [0.375, 0.140625]]
    assert step.traces == 4


def test_a_step_refuses_what_its_loss_scale_does_not_hand_on():
    model, _ = network()
    optimizer = K.LossScaleOptimizer(K.SGD(0.5))
    step = loops.TrainStep(model, lambda model, batch: tf.reduce_sum(model(batch[0])), optimizer)
    step(np.zeros((1, 2), "float32"))
    optimizer.clipnorm = 1.0
    with pytest.raises(ValueError, match="`optimizer` is a LossScaleOptimizer with `clipnorm=1.0`"):
        step(np.zeros((1, 2), "float32"))


@pytest.mark.parametrize("traced", [False, True])
def test_limits_and_averages_that_are_set_later(traced):
    model, variables = network()
    optimizer = grouped(model, K.SGD(1.0, use_ema=True, ema_momentum=0.5))
    optimizer.clipvalue, optimizer.ema_momentum = 0.25, 0.75
    call = tf.function(optimizer.apply) if traced else optimizer.apply
    for _ in range(2):
        call([tf.ones((2, 2)), tf.zeros((2, 2))])
    np.testing.assert_allclose(variables[0], np.full((2, 2), 0.5))
    average = optimizer.grouped_update.state["norm/gamma/average"]
    np.testing.assert_allclose(average, np.full((2, 2), 0.75 * 0.75 + 0.25 * 0.5))
    config = optimizer.get_config()["optimizer"]["config"]
    assert (config["clipvalue"], config["ema_momentum"], config["use_ema"]) == (0.25, 0.75, True)


def test_what_a_traced_function_does_not_follow_is_told():
    model, _ = network()
    optimizer = grouped(model, K.SGD(1.0, weight_decay=0.1))
    tf.function(optimizer.apply)([tf.zeros((2, 2)), tf.zeros((2, 2))])
    for what in ("weight_decay", "norm"):
        with pytest.warns(
            UserWarning, match=r"another '(weight|exclude).*traced before do not follow: trace them"
        ):
            change(what, optimizer)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_what_does_not_decay_is_saved(name, own):
    model, variables = network()
    optimizer = MAKE[name]()
    optimizer.exclude_from_weight_decay(var_list=variables[:1])
    if own:
        plan = partition(model, {"all": Group("*", optimizer=optimizer)})
        optimizer = GroupedOptimizer(K.SGD(0.1), plan)
    else:
        optimizer = grouped(model, optimizer)
    loaded = GroupedOptimizer.from_config(optimizer.get_config())
    again = GroupedOptimizer.from_config(loaded.get_config())
    again.build(variables)
    again.apply([tf.zeros((2, 2)), tf.zeros((2, 2))], variables)
    assert [float(variable.numpy()[0, 0]) < 1 for variable in variables] == [False, True]


class Fading(keras.optimizers.SGD):
    """Its `get_config` does not tell what it was made with."""

    def __init__(self, learning_rate=0.1, factors=(), change=abs, **settings):
        super().__init__(learning_rate, **settings)
        self.factors, self.change = list(factors), change


@pytest.mark.parametrize(
    "make, lost",
    [
        (lambda: Fading(factors=[1.0, 2.0]), "factors"),
        (lambda: Fading(change=lambda gradient: gradient), "change"),
        (
            lambda: type("Bare", (K.SGD,), {"__init__": lambda self: K.SGD.__init__(self, 0.1)})(),
            "its construct",
        ),
    ],
)
def test_what_files_do_not_hold_is_told(make, lost):
    model, _ = network()
    optimizer = grouped(model, make())
    with pytest.warns(UserWarning, match=f"files and copies do not hold .*{lost}.*return it in `get_config`"):
        optimizer.get_config()
    grouped(model, Fading(momentum=0.5, weight_decay=0.1)).get_config()


@pytest.mark.parametrize("name, value", [("use_ema", True), ("gradient_accumulation_steps", 2)])
def test_settings_that_need_state_are_refused(name, value):
    model, _ = network()
    with pytest.raises(
        ValueError, match=f"`{name}` cannot be set to {value} on .*set it on the optimizer that is"
    ):
        setattr(grouped(model, K.SGD(1.0)), name, value)


@pytest.mark.parametrize(
    "name, value, message",
    [
        (
            "weight_decay",
            0.25,
            "`weight_decay` of the AdamW that 'grouped.*' wraps was set to 0.25.*set it on the",
        ),
        ("clipnorm", 0.25, "`clipnorm` of the AdamW that 'grouped.*' wraps was set to 0.25"),
        (
            "amsgrad",
            True,
            "settings that need other state than it has for norm/gamma, other/gamma: make another",
        ),
    ],
)
def test_changes_of_what_is_wrapped_are_refused_if_they_cannot_act(name, value, message):
    model, _ = network()
    wrapped = K.AdamW(0.1)
    optimizer = grouped(model, wrapped)
    setattr(wrapped, name, value)
    for _ in range(2):  # a `TrainStep` traces what fails once more
        with pytest.raises(ValueError, match=message):
            optimizer.apply([tf.zeros((2, 2)), tf.zeros((2, 2))])


def test_a_common_setting_on_a_groups_own_is_refused_later_too():
    model, _ = network()
    own = K.SGD(0.1)
    optimizer = grouped(model, K.SGD(0.1), optimizer=own)
    own.clipnorm = 1.0
    with pytest.raises(
        ValueError, match="`optimizer` of a group has `clipnorm=1.0`: it holds for all groups"
    ):
        optimizer.apply([tf.zeros((2, 2)), tf.zeros((2, 2))])
