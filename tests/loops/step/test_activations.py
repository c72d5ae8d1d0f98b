"""What layers give in a watched step equals NumPy's numbers of their outputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.step.activations import Activations
from gradloop.optim.filters.select_layers import select_layers
from tests.loops.step.watched import LOSS, Seen, X, Y
from tests.tolerance import rounding


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(6, name="first"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Dense(3, name="last"),
        ]
    )


def run(network: keras.Model, seen: Seen, **options: Any) -> None:
    step = loops.TrainStep(network, LOSS, keras.optimizers.SGD(0.1), **options)
    loops.train(step, loops.Batches(X, Y, 8, shuffle=False), epochs=1, callbacks=[seen])


@pytest.mark.numbers
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.release)])
def test_means_deviations_and_dead_units(jit_compile: bool) -> None:
    network = model()
    kernel = network.get_layer("first").kernel
    kernel.assign(kernel.numpy() * [1, 1, -9, 1, 0, 1])  # its inputs are positive
    x, outputs = X[:8], {}
    for layer in network.layers:
        outputs[layer.name] = x = layer(x).numpy()
    seen = Seen(variables=None, activations="*", every=1)
    run(network, seen, jit_compile=jit_compile)
    first = seen.seen[1].scalars
    assert set(first) == {
        f"{q}/{name}" for name in outputs for q in ("activation_mean", "activation_std", "dead_units")
    }
    for name, given in outputs.items():
        np.testing.assert_allclose(first[f"activation_mean/{name}"], given.mean(), rounding())
        np.testing.assert_allclose(first[f"activation_std/{name}"], given.std(), rounding())
        assert first[f"dead_units/{name}"] == (given <= 0).all(0).mean()
    assert 0 < first["dead_units/relu"] < 1
    assert list(seen.seen) == [1, 2, 3]


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("relu", {"relu"}),
        (keras.layers.ReLU, {"relu"}),
        (keras.layers.Dense, {"first", "last"}),
        (optim.name("relu") | optim.kind("bias"), {"first", "relu", "last"}),
        (lambda info: info.variable.shape == (3,), {"last"}),
        (optim.from_layer("relu"), {"relu", "last"}),
    ],
    ids=["name", "class with no weights", "class", "union", "callable", "from a layer"],
)
def test_layers_are_chosen_by_their_variables_or_names(chosen: Any, names: set[str]) -> None:
    assert {node.path for node in select_layers(model(), chosen)} == names


def test_a_layer_is_chosen_as_an_object() -> None:
    network = model()
    assert [node.path for node in select_layers(network, network.get_layer("relu"))] == ["relu"]


def test_a_filter_that_matches_no_layer_is_refused() -> None:
    with pytest.raises(optim.SelectionError, match="name\\('rleu'\\) matches none.*Did you mean"):
        run(model(), Seen(activations="rleu"))


def test_layers_that_give_nothing_are_told_once() -> None:
    cell = keras.layers.SimpleRNNCell(4, name="cell")
    rnn = keras.layers.RNN(cell, name="rnn")
    network = keras.Sequential([keras.Input((5,)), keras.layers.Reshape((5, 1)), rnn, keras.layers.Dense(3)])
    run(network, Seen(variables=None, activations="rnn", every=1))  # the RNN stands for its cell
    seen = Seen(variables=None, activations="cell", every=1, histograms="*", histograms_every=2)
    with pytest.warns(
        UserWarning, match="`activations` chose layers that give nothing to measure.*cell"
    ) as told:
        run(network, seen)
    assert len(told) == 1
    assert not seen.seen[1].scalars


def test_a_unit_of_nan_is_not_dead() -> None:
    activations = Activations(model(), ["relu"])
    value = tf.constant([[np.nan, 0.0, -1.0], [0.0, 0.0, -2.0]])
    activations.store(activations.sums({id(activations._layers["relu"]): [value]}))
    np.testing.assert_allclose(activations.read()["relu"]["dead_units/relu"], 2 / 3)


def test_a_shared_layer_is_measured_over_its_calls() -> None:
    inputs = keras.Input((5,))
    shared = keras.layers.Dense(3, name="shared")
    first = shared(inputs)
    network = keras.Model(inputs, first + shared(inputs * 2.0))
    given = np.concatenate([shared(X[:8]).numpy(), shared(2.0 * X[:8]).numpy()])
    seen = Seen(variables=None, activations="*", every=1)  # no warning of the input, which nobody calls
    run(network, seen)
    np.testing.assert_allclose(seen.seen[1].scalars["activation_std/shared"], given.std(), 1e-5)
