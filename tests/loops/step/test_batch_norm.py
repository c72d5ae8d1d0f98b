"""BatchNorm trains exactly where its variables do."""

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.step.batch_norm import frozen_norms, inference_mode

pytestmark = pytest.mark.numbers

X = np.random.default_rng(0).normal(3.0, 2.0, size=(32, 4)).astype("float32")
Y = np.random.default_rng(1).integers(0, 2, size=32)


def model(**options):
    keras.utils.set_random_seed(0)
    norm = keras.layers.BatchNormalization
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, name="first"),
            norm(name="norm1", **options),
            keras.layers.Dense(5, name="second"),
            norm(name="norm2", **options),
            keras.layers.Dense(2, name="head"),
        ]
    )


def moved(network, variables):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    step = loops.TrainStep(network, loss, "sgd", variables=variables)
    before = {n: network.get_layer(n).moving_mean.numpy() for n in ("norm1", "norm2")}
    step(X, Y)
    return [n for n in before if not np.array_equal(network.get_layer(n).moving_mean, before[n])]


@pytest.mark.parametrize(
    "variables, expected",
    [
        (None, ["norm1", "norm2"]),
        ("head", []),
        (["norm2/gamma", "head"], ["norm2"]),
        (["second", "norm1/beta"], ["norm1"]),
    ],
)
def test_statistics_move_where_own_variables_train(variables, expected):
    assert moved(model(), variables) == expected


def test_without_own_variables_it_trains_with_everything_or_not_at_all():
    assert moved(model(scale=False, center=False), None) == ["norm1", "norm2"]
    assert moved(model(scale=False, center=False), "head") == []


def test_a_nested_base_stays_in_inference_mode_whatever_the_outer_call_says():
    """Keras overrides `base(x, training=False)` (FACT: keras #20285); the choice of variables does not."""
    base = model()
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, keras.layers.Dense(2, name="new")(base(inputs, training=False)))
    weights = base.get_weights()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    step = loops.TrainStep(outer, loss, "sgd", variables="new")
    step.run(iter(loops.Batches(X, Y, 8)), 4)
    for left, right in zip(base.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_inference_mode_puts_every_flag_back():
    network = model()
    layer = network.get_layer("norm1")
    layer.beta.trainable = False
    with pytest.raises(RuntimeError), inference_mode([layer]):
        assert not layer.trainable and not layer.gamma.trainable
        raise RuntimeError
    assert layer.trainable and layer.gamma.trainable and not layer.beta.trainable
    assert not layer.moving_mean.trainable


def test_frozen_norms_lists_layers():
    network = model()
    head = network.get_layer("head").trainable_variables
    assert [layer.name for layer in frozen_norms(network, head)] == ["norm1", "norm2"]
    assert frozen_norms(network, network.trainable_variables) == []
