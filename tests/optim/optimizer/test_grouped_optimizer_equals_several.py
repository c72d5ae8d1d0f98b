"""Several groups beside several Keras optimizers, each over its part."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import Group, GroupedOptimizer, KernelDecay, partition
from tests.optim.optimizer.weights import SHAPES, Weights, assert_close

K = keras.optimizers
STEPS = 20
STOCK = sorted(
    name
    for name, item in vars(K).items()
    if inspect.isclass(item)
    and issubclass(item, K.Optimizer)
    and name not in {"Optimizer", "MultiOptimizer", "LossScaleOptimizer"}
)


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
def test_kernel_decay_spares_vectors_and_what_is_called_b(make):
    found = grouped(make(0.1), {"all": Group("*", weight_decay=KernelDecay(0.3))})
    assert_close(found, pieces(*[make(0.1, weight_decay=decay) for decay in (0.3, 0.0, 0.0)]))


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


@pytest.mark.parametrize("name", sorted(set(STOCK) - {"Muon"}))  # Keras 3.12's fails, whatever it is given
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
    linear = {"SGD", "Lion"}  # they square no gradient
    assert (name in linear) == np.allclose(run(getattr(K, name)(0.1), dense=False), expected, atol=1e-4)
