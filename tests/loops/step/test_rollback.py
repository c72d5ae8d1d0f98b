"""The copy of the state that a forward pass writes, for steps that fail."""

import keras
import numpy as np
import pytest

from gradloop.loops.step.rollback import ForwardState


@pytest.fixture
def norms():
    """A model of two BatchNorm layers: itself and the layers."""
    layers = [keras.layers.BatchNormalization(name=name) for name in ("norm1", "norm2")]
    return keras.Sequential([keras.Input((5,)), *layers]), *layers


def test_it_copies_what_the_forward_pass_writes_alone(norms):
    network, frozen, norm = norms
    state = ForwardState(network, [frozen])
    assert len(state.save()) == 2  # norm2's two statistics
    norm.moving_mean.assign(np.full(5, 9.0))
    state.restore(when=False)
    assert norm.moving_mean.numpy()[0] == 9.0
    state.restore(when=True)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), np.zeros(5))
    norm.trainable = False
    assert ForwardState(network, [frozen]).save() == []


def test_metrics_are_of_it_and_no_statistics(norms):
    network, *frozen = norms
    metric = keras.metrics.Mean()
    state = ForwardState(network, frozen, [metric])
    state.save()
    metric.update_state(3.0)
    assert state.statistics() == []
    state.restore()
    assert float(metric.count.numpy()) == 0.0
