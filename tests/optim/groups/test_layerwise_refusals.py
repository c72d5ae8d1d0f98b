"""What groups by depth refuse: decays, blocks, rates and models."""

import keras
import pytest

from gradloop import optim
from gradloop.optim import discriminative, layerwise_decay
from tests.optim.groups.models import sequential

L = keras.layers


@pytest.mark.parametrize("bad", [0, 0.0, -0.5, 1.5, float("nan"), float("inf")])
def test_decay_out_of_range(bad):
    with pytest.raises(ValueError, match="`decay` must be a finite number above 0 and at most 1, got"):
        layerwise_decay(sequential(), bad)


@pytest.mark.parametrize("bad", [True, "0.5", None])
def test_decay_that_is_no_number(bad):
    with pytest.raises(TypeError, match="`decay` must be a number above 0 and at most 1, got"):
        layerwise_decay(sequential(), bad)


@pytest.mark.parametrize("bad", ["fc*", 3, {"fc*": 1}])
def test_blocks_of_another_type(bad):
    with pytest.raises(TypeError, match="`blocks` must be a list of filters, one for each depth"):
        layerwise_decay(sequential(), blocks=bad)


def test_blocks_that_match_nothing():
    with pytest.raises(ValueError, match="`blocks` is empty: give a filter for each depth"):
        layerwise_decay(sequential(), blocks=[])
    with pytest.raises(optim.SelectionError, match="name.'fcc1'. matches none"):
        layerwise_decay(sequential(), blocks=["fc0", "fcc1"])
    with pytest.raises(TypeError, match="must be strings, compiled regexes, layer classes"):
        layerwise_decay(sequential(), blocks=["fc0", 3])


REFUSED = [
    ({"lowest": 1e-2, "highest": 1e-3}, ValueError, "`lowest` 0.01 is above `highest` 0.001"),
    ({"lowest": 0.0}, ValueError, "`lowest` must be a finite number above 0, got 0"),
    ({"lowest": float("nan")}, ValueError, "`lowest` must be a finite number above 0, got nan"),
    ({"highest": float("inf")}, ValueError, "`highest` must be a finite number above 0, got inf"),
    ({"lowest": True}, TypeError, "`lowest` must be a number above 0, got True"),
    ({"groups": 0}, ValueError, "`groups` must be at least 1, got 0"),
    ({"groups": 2.0}, TypeError, "`groups` must be a whole number of at least 1, got 2.0"),
    ({"groups": True}, TypeError, "`groups` must be a whole number of at least 1, got True"),
    ({"groups": 5}, ValueError, "`groups` 5 is more than the 4 layers .* ask for 4 or fewer"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_discriminative_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        discriminative(sequential(4), **{"lowest": 1e-4, "highest": 1e-2, **arguments})


@pytest.mark.parametrize("make", [layerwise_decay, lambda model: discriminative(model, 1e-4, 1e-2)])
def test_unbuilt_and_wrong_models(make):
    with pytest.raises(optim.NotBuiltError, match="call it once on a batch"):
        make(keras.Sequential([L.Dense(1)]))
    with pytest.raises(TypeError, match="`model` must be a keras.Model"):
        make("model")
