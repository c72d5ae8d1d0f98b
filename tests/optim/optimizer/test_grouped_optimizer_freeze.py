"""A frozen group stands still, at once, for every kind of kernel; the others move as if alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import Group, GroupedOptimizer, partition

K = keras.optimizers
OPTIMIZERS = {
    "SGD": lambda: K.SGD(0.1, weight_decay=0.1),
    "Adadelta": lambda: K.Adadelta(0.5),
    "RMSprop": lambda: K.RMSprop(0.1, centered=True),
    "Adam": lambda: K.Adam(0.1),
    "AdamW with averages": lambda: K.AdamW(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "momentum": lambda: K.SGD(0.1, momentum=0.9, weight_decay=0.1),
    "Adagrad": lambda: K.Adagrad(0.1),
    "RMSprop with momentum": lambda: K.RMSprop(0.1, momentum=0.9),
    # these by Keras' own step
    "Lion": lambda: K.Lion(0.1, weight_decay=0.1),
    "Nadam": lambda: K.Nadam(0.1),
    "Adafactor with averages": lambda: K.Adafactor(0.1, use_ema=True, ema_momentum=0.5),
    "amsgrad": lambda: K.Adam(0.1, amsgrad=True),
}
SHAPES = {"body": (3, 2), "head": (2,)}
NAMES = list(SHAPES)


class Weights(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        random = np.random.RandomState(0)
        for name, shape in SHAPES.items():
            value = random.standard_normal(shape)
            setattr(self, name, keras.Variable(value, dtype="float32", name=name))
        self.built = True


def gradients(step):
    random = np.random.RandomState(step)
    return [random.standard_normal(shape).astype("float32") for shape in SHAPES.values()]


def made(name, frozen=()):
    weights = Weights()
    groups = {group: Group(group, frozen=group in frozen) for group in SHAPES}
    return weights, GroupedOptimizer(OPTIMIZERS[name](), partition(weights, groups))


def everything(weights, optimizer, group):
    """All that belongs to a group: the weight, its state, its count of updates."""
    owned = {k: v.numpy() for k, v in optimizer.grouped_update.state.items() if k.startswith(f"{group}/")}
    return {
        **owned,
        "weight": getattr(weights, group).numpy(),
        "count": optimizer.grouped_update.counts.by_name().get(group),
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


def alone(name, group, steps):
    """The group with an optimizer that knows no other."""
    weights = Weights()
    getattr(weights, NAMES[1 - NAMES.index(group)]).trainable = False
    only = GroupedOptimizer(OPTIMIZERS[name](), partition(weights, {group: group}))
    variable = getattr(weights, group)
    for step in steps:
        only.apply([gradients(step)[NAMES.index(group)]], [variable])
    return weights, only


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


# By a kernel, and by Keras' own step; the others do without a trace what they do in one.
EAGERLY = {"SGD", "Lion"}


@pytest.mark.parametrize(
    "name, traced",
    [
        *(pytest.param(name, True, id=f"{name}-traced") for name in OPTIMIZERS),
        *(
            pytest.param(name, False, id=f"{name}-eager", marks=() if name in EAGERLY else pytest.mark.long)
            for name in OPTIMIZERS
        ),
    ],
)
def test_freeze_and_unfreeze(name, traced):
    """Frozen from the start, unfrozen late, frozen again; one trace."""
    weights, optimizer = made(name, frozen=["body"])
    traces = []

    def apply(given):
        traces.append(1)
        optimizer.apply(given)

    if traced:
        apply = tf.function(apply)
    before = everything(weights, optimizer, "body")
    for step in range(3):
        apply([tf.constant(gradient) for gradient in gradients(step)])
    assert_same(everything(weights, optimizer, "body"), before)

    optimizer.unfreeze("body")
    for step in range(3, 6):
        apply([tf.constant(gradient) for gradient in gradients(step)])
    # Its bias correction counts its own updates: a fresh optimizer over it gives the same.
    if "AdamW with averages" not in name:  # overwritten in step with the common count
        bare_weights = Weights()
        bare = OPTIMIZERS[name]()
        bare.build([bare_weights.body])
        for step in range(3, 6):
            bare.apply([gradients(step)[0]], [bare_weights.body])
        close(weights.body.numpy(), bare_weights.body.numpy())

    optimizer.freeze("body")
    before = everything(weights, optimizer, "body")
    for step in range(6, 8):
        apply([tf.constant(gradient) for gradient in gradients(step)])
    assert_same(everything(weights, optimizer, "body"), before)

    assert len(traces) == (1 if traced else 8)
    assert int(optimizer.iterations.numpy()) == 8
    others, only = alone(name, "head", range(8))
    close(weights.head.numpy(), others.head.numpy())
    for key, value in everything(others, only, "head").items():
        if key != "count":
            close(everything(weights, optimizer, "head")[key], value)


@pytest.mark.parametrize("name", ["SGD", "momentum", "Lion"])
def test_a_caller_that_retraces_has_no_frozen_groups_in_its_graph(name):
    weights, optimizer = made(name, frozen=["body"])

    @tf.function(
        autograph=False
    )  # as in every caller; AutoGraph would convert all that is called, for seconds
    def apply(given):
        update = optimizer.grouped_update
        members = update.members_of(weights.trainable_variables)
        update.apply(optimizer, list(zip(members, given)), retraces=True)

    given = [tf.constant(gradient) for gradient in gradients(0)]
    operations = {op.type for op in apply.get_concrete_function(given).graph.get_operations()}
    assert not operations & {"If", "StatelessIf", "SelectV2"}
    before = weights.body.numpy()
    # Not even what is not finite comes through.
    apply([given[0] * np.nan, given[1]])
    np.testing.assert_array_equal(weights.body, before)
    bare, only = alone(name, "head", [0])
    close(weights.head.numpy(), bare.head.numpy())


def test_the_plan_tells_what_trains():
    weights, optimizer = made("Adam")
    optimizer.freeze("body", "head")
    assert optimizer.plan.trained == []
    optimizer.unfreeze("head")
    assert optimizer.plan.trained == [weights.head]
    assert optimizer.plan.groups["body"].frozen
    assert weights.body.trainable  # the layer's own attribute is the user's


def test_all_frozen_is_no_update():
    weights, optimizer = made("Adam", frozen=["body", "head"])
    before = [v.numpy() for v in weights.trainable_variables]
    optimizer.apply([tf.constant(gradient) for gradient in gradients(0)])
    for old, variable in zip(before, weights.trainable_variables):
        np.testing.assert_array_equal(variable, old)


def test_unknown_groups():
    _, optimizer = made("Adam")
    with pytest.raises(
        ValueError, match="`names` holds 'boddy', which is no group: the groups are 'body', 'head'"
    ):
        optimizer.freeze("body", "boddy")
    with pytest.raises(ValueError, match="`names` is empty: name at least one of the groups 'body', 'head'"):
        optimizer.unfreeze()
    assert not optimizer.plan.groups["body"].frozen
