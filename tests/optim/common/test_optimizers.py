"""What is read of Keras' optimizers exists, and what wraps another one is found."""

import keras
import pytest

from gradloop.optim.common.optimizers import SHARED_SETTINGS, inner_optimizer

pytestmark = pytest.mark.versions


def test_the_settings_are_keras_own():
    optimizer = keras.optimizers.SGD()
    assert all(hasattr(optimizer, setting) for setting in SHARED_SETTINGS)
    assert not any(getattr(optimizer, setting) for setting in SHARED_SETTINGS)


def test_the_optimizer_inside_a_loss_scale():
    inner = keras.optimizers.SGD()
    assert inner_optimizer(inner) is inner
    assert inner_optimizer(keras.optimizers.LossScaleOptimizer(inner)) is inner
