"""Drawing in the body changes no number that is drawn after it."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.support.random_state import preserve_random_state

pytestmark = pytest.mark.versions


def draw():
    drawn = [random.random(), np.random.rand(), tf.random.uniform([]), keras.random.normal(())]
    return [float(number) for number in [*drawn, *tf.data.Dataset.range(9).shuffle(9)]]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_numbers_are_those_without_the_body(begun, fails):
    def numbers(look):
        keras.utils.clear_session()  # has no generator yet
        keras.utils.set_random_seed(5)
        tf.random.set_global_generator(tf.random.Generator.from_seed(1))
        if begun:
            draw()
        if look:
            try:
                with preserve_random_state():
                    draw()
                    tf.random.get_global_generator().normal([])
                    if fails:
                        raise KeyboardInterrupt
            except KeyboardInterrupt:
                pass
        return draw() + [float(tf.random.get_global_generator().normal([]))]

    assert numbers(True) == numbers(False)
