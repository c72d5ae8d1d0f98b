"""What `loops.record` takes, where, and what it refuses."""

import fractions
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.support.scalars import collect_scalars, is_recording, recording_disabled


def recorded(function, graph=False, taken=("loss", "accuracy"), reduces=None):
    """Name -> value of what a function records, eagerly or in a TensorFlow function."""
    columns = ()

    def run():
        nonlocal columns
        with collect_scalars(taken, {} if reduces is None else reduces) as found:
            function()
        columns = found.columns
        return found.values

    values = (tf.function(run, autograph=False) if graph else run)()
    assert all(value.dtype == tf.float32 for value in values)
    return {column.name: float(value) for column, value in zip(columns, values)}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        3,
        3.0,
        np.float64(3),
        np.array(3),
        fractions.Fraction(3),
        tf.constant(3),
        tf.constant(3, tf.float16),
        keras.Variable(3.0),
        tf.Variable(3, dtype=tf.int64),
    ],
)
def test_values(value, graph):
    assert recorded(lambda: loops.record("a", value), graph) == {"a": 3.0}


def test_truth_is_one():
    given = (True, np.False_, tf.constant(True))
    assert recorded(lambda: [loops.record(str(n), value) for n, value in enumerate(given)]) == {
        "0": 1,
        "1": 0,
        "2": 1,
    }


@pytest.mark.parametrize("graph", [False, True])
def test_the_same_name_several_times(graph):
    def several():
        for reduce in ("mean", "sum", "max"):
            for value in (1.0, tf.constant(5.0), 3):
                loops.record(reduce, value, reduce)

    assert recorded(several, graph) == {"mean": 3.0, "sum": 9.0, "max": 5.0}


def test_a_number_that_takes_more_than_64_bits():
    assert recorded(lambda: loops.record("a", 2**100)) == {"a": 2.0**100}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, 1.0), TypeError, "`name` must be a string, not 3"),
        (("", 1.0), ValueError, "`name` is '': pass the key that the scalar is to have in the logs"),
        (("a", 1.0, "min"), ValueError, "`reduce` must be 'mean', 'sum' or 'max', not 'min'"),
        (("a", [1.0]), TypeError, "`value` of 'a' must be a number or a scalar tensor, not list: reduce it"),
        (("a", None), TypeError, "`value` of 'a' must be a number or a scalar tensor, not NoneType"),
        (("a", "1"), TypeError, "`value` of 'a' must be a number or a scalar tensor, not str"),
        (("a", 1j), TypeError, "`value` of 'a' must be a number or a scalar tensor, not complex"),
        (("a", np.complex64(1j)), TypeError, "`value` of 'a' has dtype complex64: record a real number"),
        (
            ("a", np.datetime64("2020-01-01")),
            TypeError,
            "`value` of 'a' has dtype datetime64[D]: record a real",
        ),
        (("a", np.ones(2)), ValueError, "`value` of 'a' has shape (2,): reduce it to a scalar"),
        (("loss", 1.0), ValueError, "`name` 'loss' is that of the loss or of a metric in the logs: choose"),
        (("accuracy", 1.0), ValueError, "`name` 'accuracy' is that of the loss or of a metric"),
        (("val_a", 1.0), ValueError, "`name` 'val_a' is one of the validation in the logs: choose another"),
    ],
)
def test_what_is_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        recorded(lambda: loops.record(*arguments))


def test_other_tensors():
    for value, message in (
        (tf.ones([2, 1]), r"`value` of 'a' has shape \(2, 1\): reduce it"),
        (tf.constant("1"), "`value` of 'a' has dtype string: record a real number"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            recorded(lambda value=value: loops.record("a", value), graph=True)


def test_one_name_has_one_reduction_in_all_traces():
    reduces = {}
    recorded(lambda: loops.record("a", 1.0), reduces=reduces)
    with pytest.raises(ValueError, match="`reduce` is 'max' for 'a', and was 'mean' for the same name: use"):
        recorded(lambda: loops.record("a", 1.0, "max"), reduces=reduces)


def of_a_condition(value):
    tf.cond(value > 0, lambda: [loops.record("a", 1.0), value][1], lambda: value)


def of_a_loop(value):
    tf.while_loop(lambda i: i < 2, lambda i: [loops.record("a", value), i + 1][1], [0])


def of_a_function(value):
    tf.function(lambda x: loops.record("a", x), autograph=False)(value)


def of_all_rows(value):
    tf.vectorized_map(lambda row: [loops.record("a", row), row][1], tf.stack([value, 2 * value]))


def out_of_a_loop(value):
    found = []
    tf.while_loop(lambda i: i < 2, lambda i: [found.append(i * 2), i + 1][1], [0])
    loops.record("a", found[0])


@pytest.mark.parametrize("function", [of_a_condition, of_a_loop, of_a_function, of_all_rows, out_of_a_loop])
def test_what_may_not_run_once_is_refused(function):
    with pytest.raises(
        ValueError, match="`record` was called with the name 'a' in a TensorFlow function, co"
    ):
        recorded(lambda: function(tf.constant(1.0) + 1.0), graph=True)


def test_what_a_function_returns_is_taken_and_so_are_tensors_from_around():
    @tf.function
    def run():
        outer = tf.constant(2.0) * 2.0

        @tf.function
        def inner():
            with collect_scalars((), {}) as found:
                loops.record("outer", outer)
                loops.record("after", tf.cond(outer > 0, lambda: 7, lambda: 8))
            return found.values

        return inner()

    assert [float(value) for value in run()] == [4.0, 7.0]


@pytest.mark.parametrize("graph", [False, True])
def test_outside_of_a_step(graph):
    def call():
        loops.record("a", 1.0)

    with pytest.raises(ValueError, match="'a' outside of a step: call it in what .* return the value"):
        (tf.function(call) if graph else call)()


class Recording(keras.layers.Layer):
    def call(self, x, training=None):
        loops.record("a", keras.ops.mean(x))
        return x


def test_a_layer_that_records_can_be_built_and_used_without_training():
    model = keras.Sequential([keras.Input((2,)), Recording()])
    x = np.ones((1, 2), "float32")
    model(x)
    model.predict(x, verbose=0)
    tf.function(lambda x: model(x, training=False))(x)
    for call in (lambda: model(x, training=True), tf.function(lambda: model(x, training=True))):
        with pytest.raises(ValueError, match="outside of a step"):
            call()


def test_a_layer_that_is_built_in_a_step_records_when_it_runs():
    def step():
        model = keras.Sequential([keras.Input((2,)), Recording()])  # Keras calls it for the shapes alone
        model(np.full((1, 2), 3.0, "float32"), training=True)

    assert recorded(step) == {"a": 3.0}


def test_trials_record_nothing(tmp_path):
    def step():
        with recording_disabled(), tf.summary.create_file_writer(str(tmp_path)).as_default():
            assert not tf.summary.scalar("a", 1.0, step=1)
        with recording_disabled():
            loops.record("a", 1.0)
            assert recorded(lambda: loops.record("b", 1.0)) == {"b": 1.0}
        loops.record("c", 2.0)

    assert not is_recording()
    with recording_disabled():
        loops.record("a", 1.0)
        assert not is_recording()
    assert recorded(step) == {"c": 2.0}
