"""What is put back, by which update's decision."""

import keras
import numpy as np
import pytest

from gradloop.loops.support.record_writes import record_writes

pytestmark = pytest.mark.versions


class Average(keras.layers.Layer):
    """Writes a weight to train and an average, each one more than before."""

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(), initializer="zeros")
        self.average = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.weight.assign_add(1.0)
        self.average.assign_add(1.0)
        return x


def averages(*layers):
    return [float(layer.average.numpy()) for layer in layers]


@pytest.mark.parametrize("own, other", [(False, True), (True, False), (False, False), (True, True)])
@pytest.mark.parametrize("order", [1, -1])
def test_updates_of_the_same_writes_each_decide_about_what_they_train(own, other, order):
    one, two, none = Average(), Average(), Average()
    with record_writes() as writes:
        for layer in (one, two, none):
            layer(np.ones(1))
        for taken, layer in [(own, one), (other, two)][::order]:
            writes.undo_unless(taken, [layer.weight])
    assert averages(one, two, none) == [own, other, own and other]


def test_what_was_written_after_a_decision_is_another_matter():
    layer = Average()
    with record_writes() as writes:
        layer(np.ones(1))
        writes.undo_unless(True, [layer.weight])
        layer(np.ones(1))
        writes.undo_unless(False, [layer.weight])
    assert averages(layer) == [1.0] and float(layer.weight.numpy()) == 1.0


def test_a_weight_that_no_update_trains_stays_and_what_another_trained_too():
    trained, frozen, other = Average(), Average(), Average()
    frozen.trainable = False
    with record_writes() as writes:
        for layer in (trained, frozen, other):
            layer(np.ones(1))
        writes.undo_unless(True, [trained.weight])
        writes.undo_unless(False, [other.weight])
        assert float(trained.weight.numpy()) == 1.0
        writes.restore_untrained_weights()
    assert [float(layer.weight.numpy()) for layer in (trained, frozen, other)] == [1.0, 0.0, 0.0]
    assert len(writes.statistics()) == 3


def test_an_update_that_looks_at_nothing_trains_too():
    trained, frozen = Average(), Average()
    with record_writes() as writes:
        writes.mark_trained([trained.weight])
        for layer in (trained, frozen):
            layer(np.ones(1))
    writes.restore_untrained_weights()
    assert [float(layer.weight.numpy()) for layer in (trained, frozen)] == [1.0, 0.0]


def test_no_update_no_weights_put_back():
    layer = Average()
    with record_writes() as writes:
        layer(np.ones(1))
    writes.restore_untrained_weights()
    assert float(layer.weight.numpy()) == 1.0
