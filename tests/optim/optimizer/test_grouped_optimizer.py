"""What GroupedOptimizer is given and what it tells; and bad input."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import Group, GroupedOptimizer, partition
from tests.optim.optimizer.weights import NAMES, SHAPES, Weights, assert_close

K = keras.optimizers


def ours(groups=None, optimizer=None):
    weights = Weights()
    return weights, GroupedOptimizer(optimizer or K.SGD(1.0), partition(weights, groups or {"all": "*"}))


def ones(*names):
    return [tf.ones(SHAPES[name]) for name in names]


@pytest.mark.parametrize("make", [K.SGD, K.Adam, K.Lion])
def test_any_subset_in_any_order(make):
    weights, optimizer = ours({"a": "a", "others": "b", "c": "c"}, make(0.1))
    before = weights.values()
    optimizer.apply(ones("c", "a"), [weights.c, weights.a])
    moved = [not np.array_equal(old, new) for old, new in zip(before, weights.values())]
    assert moved == [True, False, True]
    bare = Weights()
    for variable in (bare.a, bare.c):
        keras_own = make(0.1)
        keras_own.build([variable])
        keras_own.apply([tf.ones(variable.shape)])
    assert_close(weights.values(), bare.values())


def test_all_variables_by_default():
    weights, optimizer = ours()
    before = weights.values()
    optimizer.apply(ones(*NAMES))
    assert_close(weights.values(), [value - 1 for value in before])


def test_none_leaves_a_variable_as_it_is():
    weights, optimizer = ours(optimizer=K.AdamW(0.1, weight_decay=0.5))
    before = weights.b.numpy()
    optimizer.apply([*ones("a"), None, *ones("c")])
    np.testing.assert_array_equal(weights.b, before)
    assert optimizer.grouped_update.counts.by_name() == {"a": 1, "b": 0, "c": 1}


def test_apply_gradients_takes_pairs():
    weights, optimizer = ours()
    before = weights.a.numpy()
    assert int(optimizer.apply_gradients(zip(ones("a"), [weights.a]))) == 1
    assert_close([weights.a.numpy()], [before - 1])


def test_nothing_given_is_no_update():
    _, optimizer = ours()
    optimizer.apply([], [])
    assert int(optimizer.iterations.numpy()) == 0


def test_properties():
    weights, optimizer = ours({"a": Group("a", lr_scale=0.5), "b": "b", "c": Group("c", frozen=True)})
    assert isinstance(optimizer, keras.optimizers.Optimizer)
    assert optimizer.built
    assert list(optimizer.plan.groups) == ["a", "b", "c"]
    assert optimizer.learning_rates == {"a": 0.5, "b": 1.0, "c": 1.0}
    assert optimizer.name.startswith("grouped_optimizer")
    assert GroupedOptimizer(K.SGD(), optimizer.plan, name="mine").name == "mine"
    optimizer.build(weights.trainable_variables[:2])  # a subset is known too


def test_state_exists_from_the_start_by_name():
    _, optimizer = ours({"a": Group("a", frozen=True), "b": "b", "c": "c"}, K.Adam())
    expected = [f"{name}/{slot}" for name in NAMES for slot in ("momentum", "velocity")]
    assert list(optimizer.grouped_update.state) == expected
    assert len(optimizer.variables) == 2 + len(expected) + 1  # and how many updates each has had


# -- errors ------------------------------------------------------------------------------------------------


def built_optimizer():
    optimizer = K.SGD(name="used")
    optimizer.build([keras.Variable([1.0])])
    return optimizer


@pytest.mark.parametrize(
    "optimizer, error, match",
    [
        ("adam", TypeError, "`optimizer` must be a Keras optimizer, such as .*, got 'adam'"),
        (K.Adam, TypeError, "`optimizer` must be a Keras optimizer"),
        (
            K.LossScaleOptimizer(K.SGD()),
            ValueError,
            "`optimizer` is a LossScaleOptimizer: wrap the other way",
        ),
        (
            built_optimizer(),
            ValueError,
            "`optimizer` 'used' is already built over variables: pass a fresh one",
        ),
    ],
)
def test_bad_optimizer(optimizer, error, match):
    with pytest.raises(error, match=match):
        GroupedOptimizer(optimizer, partition(Weights(), {"all": "*"}))


def test_no_optimizer_of_groups_inside_another():
    _, optimizer = ours()
    with pytest.raises(ValueError, match="`optimizer` 'grouped_optimizer.*' is a GroupedOptimizer itself"):
        GroupedOptimizer(optimizer, optimizer.plan)


@pytest.mark.parametrize("plan", [{"all": "*"}, None, "all", Weights().trainable_variables])
def test_bad_plan(plan):
    with pytest.raises(TypeError, match="`plan` must be what `optim.partition` returns, got "):
        GroupedOptimizer(K.SGD(), plan)


def test_unknown_variables():
    weights, optimizer = ours({"a": "a", "b": "b", "c": "c"})
    other = Weights()
    match = (
        "1 variables are not in the optimizer's plan: .*a. The plan holds a, b, c; make one for this model"
    )
    with pytest.raises(ValueError, match=match):
        optimizer.apply(ones("b", "a"), [weights.b, other.a])
    with pytest.raises(ValueError, match="3 variables are not in the optimizer's plan"):
        optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="1 variables are not in the optimizer's plan: a"):
        optimizer.apply(ones("a"), [weights.a.value])  # a tf.Variable
    assert int(optimizer.iterations.numpy()) == 0


@pytest.mark.parametrize("variables", [None, slice(0, 1)])
def test_another_number_of_gradients(variables):
    weights, optimizer = ours()
    chosen = None if variables is None else weights.trainable_variables[variables]
    count = 3 if chosen is None else 1
    with pytest.raises(ValueError, match=f"`grads` has 2 entries for {count} variables: one each"):
        optimizer.apply(ones("a", "b"), chosen)


def test_no_gradient_at_all():
    _, optimizer = ours()
    with pytest.raises(ValueError, match="`grads` holds None alone: the loss depends on none of a, b, c"):
        optimizer.apply([None] * 3)


def test_no_single_update_step():
    weights, optimizer = ours()
    with pytest.raises(TypeError, match=r"no single update step: call `apply\(gradients, variables\)`"):
        optimizer.update_step(*ones("a"), weights.a, 0.1)


@pytest.mark.parametrize("ask", [lambda o: o.plan, lambda o: o.learning_rates, lambda o: o.freeze("all")])
def test_from_a_config_and_not_built_yet(ask):
    weights, optimizer = ours()
    again = GroupedOptimizer.from_config(optimizer.get_config())
    match = "comes from a config and knows its plan by names alone: call `optimizer.build"
    with pytest.raises(ValueError, match=match):
        ask(again)
    with pytest.raises(ValueError, match=match):
        again.apply(ones(*NAMES))
    again.build(weights.trainable_variables)
    ask(again)
