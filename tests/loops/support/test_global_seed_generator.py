"""A step that draws from `keras.random` without a seed has the numbers of one that was drawn from before."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state

from gradloop import loops
from gradloop.loops.support.global_seed_generator import tracing_with_global_seed_generator
from gradloop.loops.support.keras_private import global_seed_generator

pytestmark = pytest.mark.versions
ONES = np.ones((8, 2), "float32")


def begin():
    """As in a new process."""
    global_state.set_global_attribute("global_seed_generator", None)
    keras.utils.set_random_seed(3)


def of_step(iterator, drawn):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])

    def loss(model, batch):
        loops.record("drawn", keras.random.normal(()))
        return loops.mean_loss(model(batch[0], training=True))

    step = loops.TrainStep(model, loss, "sgd")
    if iterator is None:
        return [float(step(ONES, ONES)["drawn"]) for _ in range(drawn)]
    return step.run(iterator, drawn)["drawn"].tolist()


def of_own_step(drawn):
    @loops.replicated
    def step(x):
        return {"drawn": keras.random.normal(())}

    return [float(step(ONES)["drawn"]) for _ in range(drawn)]


KINDS = {
    "step(x, y)": lambda drawn: of_step(None, drawn),
    "dataset": lambda drawn: of_step(iter(tf.data.Dataset.from_tensors((ONES, ONES)).repeat()), drawn),
    "Batches": lambda drawn: of_step(iter(loops.Batches(ONES, ONES, 2)), drawn),
    "own": of_own_step,
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_a_generator_that_was_there(kind):
    begin()
    found = [*KINDS[kind](3), float(keras.random.normal(())), random.random()]
    begin()
    if kind != "own":
        keras.layers.Dense(1)  # takes one of Python's numbers for its seed, as that of the model
    expected = [float(keras.random.normal(())) for _ in range(4)] + [random.random()]
    np.testing.assert_array_equal(found, np.array(expected))


def test_what_does_not_draw_leaves_no_trace():
    begin()
    state = random.getstate()
    with pytest.raises(KeyError), tracing_with_global_seed_generator() as drawn:
        tf.function(lambda: tf.constant(1.0))()
        raise KeyError
    assert drawn == [] and global_seed_generator() is None and random.getstate() == state
    keras.random.normal(())
    before = global_seed_generator()
    with tracing_with_global_seed_generator() as drawn, tracing_with_global_seed_generator() as inside:
        keras.random.normal(())
    assert drawn == inside == [before] and global_seed_generator() is before and "next" not in vars(before)


def test_new_seeds_act_on_a_step_that_was_traced():
    @loops.replicated
    def step(x):
        return keras.random.normal(())

    found = []
    for _ in range(2):
        begin()
        found += [float(step(ONES)), float(step(ONES))]
    begin()
    expected = [float(keras.random.normal(())) for _ in range(2)]
    assert found == expected * 2
