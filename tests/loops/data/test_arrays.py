"""Arrays become tensors, or are refused by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.data.arrays import common_length, map_tensors, tensors_in, to_tensors, unusual_data


def test_nests_keep_their_structure_and_dtypes():
    tensors = to_tensors({"a": (np.zeros((2, 3), "float16"), [1, 2]), "b": tf.zeros([2], tf.float64)}, "x")
    assert tensors["a"][0].dtype == tf.float16 and tensors["a"][1].dtype == tf.int64
    assert tensors["b"].dtype == tf.float32, "doubles are Keras' float type"


def test_variables_and_wide_floats():
    for array in (tf.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0]), np.array([1, 2], "longdouble")):
        assert common_length({"x": array}) == 2
        tensor = to_tensors(array, "x")
        assert tensor.dtype == tf.float32 and tensor.numpy().tolist() == [1.0, 2.0]


def test_common_length():
    assert common_length({"x": (np.zeros(3), tf.zeros([3, 2])), "y": None}) == 3
    with pytest.raises(ValueError, match=r"differ in length: `x\[0\]` has 3, `x\[1\]` has 2"):
        common_length({"x": (np.zeros(3), np.zeros(2))})
    with pytest.raises(ValueError, match="`x` holds no array"):
        common_length({"x": None, "y": np.zeros(2)})
    with pytest.raises(ValueError, match="`x` is empty: at least one example"):
        common_length({"x": np.zeros((0, 2))})
    with pytest.raises(ValueError, match=r"`y\['a'\]` is a single value, 3"):
        common_length({"x": [1], "y": {"a": 3}})


def test_strings_and_inputs_that_are_left_out():
    for strings in (
        np.array(["a", "bc"]),
        np.array(["a", "bc"], object),
        np.array([b"a", b"bc"]),
        ["a", "bc"],
    ):
        assert to_tensors(strings, "x").numpy().tolist() == [b"a", b"bc"]
    given = (None, {"a": np.zeros((2, 3)), "b": None})
    x = to_tensors(given, "x")
    assert x[0] is None and x[1]["b"] is None and x[1]["a"].shape == (2, 3)
    assert common_length({"x": given, "y": None}) == 2
    assert [t.shape[1] for t in tensors_in(map_tensors(lambda tensor: tensor[:, :1], x))] == [1]


def test_what_cannot_be_trained_on():
    with pytest.raises(TypeError, match=r"`x\['a'\]` is an array of dtype object, .*: convert it"):
        to_tensors({"a": np.array([None])}, "x")
    with pytest.raises(TypeError, match="`sample_weight` holds strings: pass a number"):
        to_tensors(tf.constant(["a"]), "sample_weight")
    with pytest.raises(TypeError, match="`x` is a list of arrays: pass a tuple"):
        to_tensors([np.zeros(2), np.zeros(2)], "x")
    with pytest.raises(TypeError, match="`x` is a list of arrays: pass a tuple"):
        common_length({"x": [np.zeros((4, 2)), np.zeros((4, 3))], "y": np.zeros(4)})
    with pytest.raises(ValueError, match="`x` holds no array"):
        common_length({"x": (None, None)})


def test_usual_arrays_leave_an_error_as_it_is():
    assert unusual_data(ValueError("another"), (np.zeros((2, 3)), tf.zeros([2]))) is None
    ragged_targets = (np.zeros((2, 3)), tf.ragged.constant([[1.0], []]))
    assert "`y` is ragged" in str(unusual_data(ValueError("another"), ragged_targets))
