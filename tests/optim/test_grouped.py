"""Scales and several groups beside several Keras optimizers, each over its part; and bad input."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import Group, GroupedOptimizer, KernelDecay, partition

K = keras.optimizers
STEPS = 20
STOCK = sorted(
    name
    for name, item in vars(K).items()
    if inspect.isclass(item)
    and issubclass(item, K.Optimizer)
    and name not in {"Optimizer", "MultiOptimizer", "LossScaleOptimizer"}
)
NAMES = ("a", "b", "c")
SHAPES = {"a": (4, 3), "b": (5, 2), "c": (3,)}  # `b` has sparse gradients


class Weights(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        random = np.random.RandomState(0)
        for name in NAMES:
            value = random.standard_normal(SHAPES[name])
            setattr(self, name, keras.Variable(value, dtype="float32", name=name))
        self.built = True

    def values(self):
        return [variable.numpy() for variable in self.trainable_variables]


def gradients():
    random = np.random.RandomState(1)
    return [
        [random.standard_normal(shape).astype("float32") for shape in ((4, 3), (2, 2), (3,))]
        for _ in range(STEPS)
    ]


def sparse(values):
    return tf.IndexedSlices(values, tf.constant([1, 3]), tf.constant(SHAPES["b"]))


def train(weights, *parts, by=1.0):
    """Updates with the same gradients. `parts`: (optimizer, its variables)."""
    for optimizer, variables in parts:
        optimizer.build(variables)

    @tf.function
    def step(a, b, c):
        given = {id(weights.a): by * a, id(weights.b): sparse(by * b), id(weights.c): by * c}
        for optimizer, variables in parts:
            optimizer.apply([given[id(v)] for v in variables], variables)

    for values in gradients():
        step(*values)
    return weights.values()


def grouped(optimizer, groups):
    weights = Weights()
    ours = GroupedOptimizer(optimizer, partition(weights, groups))
    return train(weights, (ours, weights.trainable_variables))


def pieces(*optimizers):
    """One Keras optimizer a variable."""
    weights = Weights()
    return train(weights, *[(o, [v]) for o, v in zip(optimizers, weights.trainable_variables)])


def assert_close(found, expected):
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(other).max())


# -- scales and groups -------------------------------------------------------------------------------------


SEVERAL = {
    "SGD": lambda rate, **k: K.SGD(rate, momentum=0.9, **k),
    "Adam": lambda rate, **k: K.Adam(rate, **k),
    "Lion": lambda rate, **k: K.Lion(rate, **k),
    "Nadam": lambda rate, **k: K.Nadam(rate, **k),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_groups_are_several_optimizers(name):
    make = SEVERAL[name]
    cosine = K.schedules.CosineDecay(0.2, STEPS)
    found = grouped(
        make(0.1, weight_decay=0.02),
        {
            "c": Group("c", learning_rate=cosine, weight_decay=0.0),
            "a": Group("a", lr_scale=0.5),
            "b": Group("b", learning_rate=0.04, weight_decay=0.3),
        },
    )
    expected = pieces(make(0.05, weight_decay=0.02), make(0.04, weight_decay=0.3), make(cosine))
    assert_close(found, expected)


@pytest.mark.parametrize("make", [K.AdamW, K.Lion])
def test_kernel_decay_spares_vectors(make):
    found = grouped(make(0.1), {"all": Group("*", weight_decay=KernelDecay(0.3))})
    assert_close(
        found, pieces(make(0.1, weight_decay=0.3), make(0.1, weight_decay=0.3), make(0.1, weight_decay=0.0))
    )


def test_groups_with_optimizers_of_their_own():
    """Their own rate is the one that the scale multiplies; the common one is for the others."""
    found = grouped(
        K.Adam(0.01),
        {
            "a": Group("a", optimizer=K.SGD(0.2, momentum=0.9, weight_decay=0.1), lr_scale=0.5),
            "b": Group("b", optimizer=K.Lion(0.03)),
            "c": Group("c"),
        },
    )
    assert_close(found, pieces(K.SGD(0.1, momentum=0.9, weight_decay=0.1), K.Lion(0.03), K.Adam(0.01)))


def test_what_the_optimizer_leaves_out_of_decay():
    for make in (K.AdamW, K.Lion):
        optimizer = make(0.1, weight_decay=0.3)
        optimizer.exclude_from_weight_decay(var_names=["c"])
        found = grouped(optimizer, {"a": "a", "others": "b", "c": "c"})
        assert_close(found, pieces(*[make(0.1, weight_decay=decay) for decay in (0.3, 0.3, 0.0)]))


@pytest.mark.parametrize("make", [K.Adam, K.RMSprop, K.Adagrad, K.Lion])
def test_scaling_the_gradient_is_no_scale(make):
    """The classic mistake: it all but cancels in what divides by the gradient's size."""
    scaled = grouped(make(0.1), {"all": Group("*", lr_scale=0.1)})
    weights = Weights()
    mistaken = train(weights, (make(0.1), weights.trainable_variables), by=0.1)
    for start, right, wrong in zip(Weights().values(), scaled, mistaken):
        assert np.linalg.norm(wrong - start) > 3 * np.linalg.norm(right - start)


@pytest.mark.parametrize("name", STOCK)
def test_repeated_rows_count_with_their_sum(name):
    """As in the dense gradient that they stand for. Keras squares each slice by itself."""
    rows = tf.constant([1, 3, 1])

    def run(optimizer, dense):
        weights = Weights()
        variables = [weights.b]
        if optimizer is None:
            optimizer = GroupedOptimizer(getattr(K, name)(0.1), partition(weights, {"all": "*"}))
        else:
            optimizer.build(variables)
        for step in range(3):
            values = tf.constant([[2.0, 1.0], [1.0, -1.0], [-1.5, 1.0 + step]])
            given = tf.IndexedSlices(values, rows, tf.constant(SHAPES["b"]))
            optimizer.apply([tf.convert_to_tensor(given) if dense else given], variables)
        return weights.b.numpy()

    expected = run(getattr(K, name)(0.1), dense=True)
    np.testing.assert_allclose(run(None, dense=False), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    linear = {"SGD", "Lion", "Muon"}  # they square no gradient
    assert (name in linear) == np.allclose(run(getattr(K, name)(0.1), dense=False), expected, atol=1e-4)


# -- what is given -----------------------------------------------------------------------------------------


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
    assert optimizer._planned.numbers() == {"a": 1, "b": 0, "c": 1}


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
    assert list(optimizer._planned.state) == expected
    assert len(optimizer.variables) == 2 + len(expected)


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
