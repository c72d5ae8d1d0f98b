"""Fails when Keras keeps other things among an optimizer's attributes than `optimizer_copies` knows."""

import keras
import numpy as np
import pytest

from gradloop.optim.private.keras_private import uses_weight_decay
from gradloop.optim.private.optimizer_copies import fresh_copy, settings_of

pytestmark = pytest.mark.versions

K = keras.optimizers


class Odd(keras.optimizers.SGD):
    """A constructor without arguments, and options that no `get_config` could return."""

    def __init__(self):
        super().__init__(0.1, momentum=0.5)
        self.factors, self._array, self.table = [2.0, {"a": (1, 2)}], np.arange(3), {"b": [1], "a": None}
        self.function, self.method = lambda gradient: 2 * gradient, self.double
        self.inner, self.made = keras.optimizers.Adam(0.25, beta_1=0.5), keras.Variable(3.0, name="made")

    def double(self):
        return self


def test_a_fresh_copy_has_all_that_a_constructor_has_set():
    optimizer = Odd()
    optimizer.clipnorm = 7.0
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    copy = fresh_copy(optimizer, 0.5)
    assert type(copy) is Odd and not copy.built and float(copy.learning_rate) == 0.5
    assert (copy.momentum, copy.clipnorm, copy.name) == (0.5, 7.0, optimizer.name)
    assert list(copy.factors) == [2.0, {"a": (1, 2)}] and dict(copy.table) == {"b": [1], "a": None}
    assert copy._array is optimizer._array and copy.function is optimizer.function
    assert copy.method() is copy
    assert not uses_weight_decay(copy, keras.Variable(1.0, name="bias"))
    # Neither state nor an optimizer inside is shared.
    copy.made.assign(4.0)
    assert float(optimizer.made) == 3.0 and len(copy.variables) == len(optimizer.variables)
    assert copy.inner is not optimizer.inner and copy.inner.get_config() == optimizer.inner.get_config()


def test_a_fresh_copy_of_a_built_optimizer_has_no_state():
    optimizer = K.Nadam(0.1, beta_1=0.5)
    optimizer.build([keras.Variable([1.0])])
    copy = fresh_copy(optimizer, 0.5)
    assert len(copy.variables) == 2 and copy.beta_1 == 0.5
    copy.build([keras.Variable([1.0, 2.0])])
    assert len(copy.variables) == len(optimizer.variables)


def test_settings_are_what_is_set_and_not_what_keras_keeps():
    optimizer, weight = K.AdamW(0.1), keras.Variable([1.0])
    before = settings_of(optimizer)
    assert {"weight_decay", "clipnorm", "beta_1", "_learning_rate"} <= set(before)
    optimizer.build([weight])
    built = settings_of(optimizer)
    optimizer.apply([keras.ops.ones(1)], [weight])
    assert settings_of(optimizer).keys() == built.keys()
    assert all(built[name] is value for name, value in settings_of(optimizer).items())
