"""Which calls of layers are taken down."""

import keras
import numpy as np
import tensorflow as tf

from gradloop.loops.support.layer_outputs import record_layer_outputs


def test_calls_are_taken_down_within_the_context_alone():
    dense, other = keras.layers.Dense(2), keras.layers.Dense(2)
    with record_layer_outputs([dense]) as found:
        given = [dense(tf.ones((1, 3))), dense(tf.zeros((1, 3)))]
        other(given[0])
    dense(tf.ones((1, 3)))
    assert list(found) == [id(dense)]
    assert [one is two for one, two in zip(found[id(dense)], given)] == [True, True]


def test_of_several_outputs_the_first_floating_one():
    lstm = keras.layers.LSTM(2, return_state=True)
    number = keras.layers.Lambda(lambda x: tf.cast(x, tf.int32))
    with record_layer_outputs([lstm, number]) as found:
        number(tf.ones((1, 3)))
        first, *_ = lstm(tf.ones((1, 4, 3)))
    np.testing.assert_array_equal(found[id(lstm)][0], first)
    assert found[id(number)] == []


def test_a_layer_in_a_loop_is_left_out():
    cell = keras.layers.GRUCell(2)
    rnn = keras.layers.RNN(cell)
    rnn.build((None, 4, 3))

    @tf.function
    def run(x):
        with record_layer_outputs([rnn, cell]) as found:
            rnn(x)
        return {len(found[id(rnn)]): found[id(rnn)], 10 + len(found[id(cell)]): 0}

    assert set(run(tf.ones((1, 4, 3)))) == {1, 10}
