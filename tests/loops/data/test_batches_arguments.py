"""What Batches is given: several arrays or none, their types, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops


@pytest.mark.numbers
@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_several_inputs(kind):
    def model():
        keras.utils.set_random_seed(1)
        inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((1,), name="b")}
        merged = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
        given = inputs if kind == "dict" else tuple(inputs.values())
        return keras.Model(given, keras.layers.Dense(1)(merged))

    arrays = {"a": np.random.rand(9, 2), "b": np.random.rand(9, 1)}
    x = arrays if kind == "dict" else tuple(arrays.values())
    y = np.arange(9.0)[:, None]
    data = loops.Batches(x, y, 4, shuffle=False)
    (first, _), *_ = list(data.iterator())
    pairs = zip(tf.nest.flatten(first), arrays.values())
    for tensor, array in pairs:
        np.testing.assert_array_equal(tensor, array[:4])
    ours, reference = loops.TrainStep(model(), "mse", keras.optimizers.SGD(0.1)), model()
    reference.compile(keras.optimizers.SGD(0.1), "mse")
    values = ours.run(data.iterator(), 3)["loss"]
    for step in range(3):
        part = slice(4 * step, 4 * step + 4)
        taken = tf.nest.map_structure(lambda a: a[part], x)  # noqa: B023
        reference.reset_metrics()  # before 3.13, Keras returned the mean since the last reset
        assert reference.train_on_batch(taken, y[part]) == pytest.approx(values[step], rel=1e-5)


def test_without_targets():
    data = loops.Batches({"x": np.arange(3)}, None, 2, shuffle=False)
    batches = [tf.nest.flatten(keras.utils.unpack_x_y_sample_weight(batch)) for batch in data]
    assert [batch[0].numpy().tolist() for batch in batches] == [[0, 1], [2]]
    assert all(batch[1] is None for batch in batches)


def test_doubles_become_floatx():
    floats = [np.ones((4, 3)), tf.ones((4, 3), tf.float64), [[1.0] * 3] * 4]
    for x in floats:
        data = loops.Batches(x, np.ones(4), 2, sample_weight=np.ones(4))
        assert {part.dtype for part in next(iter(data))} == {tf.float32}
    keras.config.set_floatx("float64")
    try:
        assert next(iter(loops.Batches(np.ones(4), np.ones(4), 2)))[0].dtype == tf.float64
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "float32"])
def test_other_types_stay(dtype):
    data = loops.Batches(np.ones((4, 2), dtype), np.ones(4, dtype), 3)
    assert [part.dtype.name for part in next(iter(data))] == [dtype, dtype]


def test_lists_are_arrays():
    data = loops.Batches([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 0], 2, shuffle=False)
    assert [x.numpy().tolist() for x, _ in data] == [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]
    assert [y.numpy().tolist() for _, y in data.iterator()] == [[0, 1], [0]]


ONES = np.ones(4)


@pytest.mark.parametrize(
    "arguments, options, match",
    [
        ((ONES, ONES, 0), {}, "`batch_size` must be at least 1, got 0"),
        ((ONES, ONES, -3), {}, "`batch_size` must be at least 1, got -3"),
        ((ONES, ONES, True), {}, "`batch_size` must be a whole number of at least 1, got True"),
        ((ONES, ONES, 1.5), {}, "`batch_size` must be a whole number of at least 1, got 1.5"),
        ((ONES, ONES, "2"), {}, "`batch_size` must be a whole number of at least 1, got '2'"),
        ((ONES, ONES, 2), {"seed": -1}, "`seed` must be at least 0, got -1"),
        ((ONES, ONES, 2), {"seed": 2**31}, r"`seed` must be at most 2\*\*31 - 1, got 2147483648"),
        ((ONES, ONES, 2), {"seed": False}, "`seed` must be a whole number of at least 0, got False"),
        ((ONES, ONES, 2), {"seed": 0.5}, "`seed` must be a whole number of at least 0, got 0.5"),
        ((ONES, ONES, 2), {"transform": 3}, r"`transform` must be a function of \(x, y\), not 3"),
        ((3.0, ONES, 2), {}, "`x` is a single value, 3.0: it needs a first dimension"),
        ((ONES, np.float32(2), 2), {}, "`y` is a single value"),
        (({"a": ONES, "b": 1}, ONES, 2), {}, r"`x\['b'\]` is a single value"),
        ((ONES, np.ones(3), 2), {}, "`x` has 4, `y` has 3. Each must have one entry per example"),
        (((ONES, np.ones(2)), ONES, 2), {}, r"`x\[0\]` has 4, `x\[1\]` has 2"),
        ((ONES, ONES, 2), {"sample_weight": np.ones(9)}, "`sample_weight` has 9"),
        ((None, ONES, 2), {}, "`x` holds no array"),
        ((ONES, None, 2), {"sample_weight": ONES}, "`sample_weight` needs `y`"),
        (({}, ONES, 2), {}, "`x` holds no array"),
        ((np.ones((0, 3)), np.ones(0), 2), {}, "`x` is empty"),
    ],
)
def test_bad_values(arguments, options, match):
    wrong_type = "whole number" in match or "`transform`" in match
    with pytest.raises(TypeError if wrong_type else ValueError, match=match):
        loops.Batches(*arguments, **options)


@pytest.mark.parametrize(
    "x, y, match",
    [
        (np.array([1, "a", None], object), np.ones(3), "`x` is an array of dtype object"),
        (np.ones(2), np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), "`y` is an array of"),
        (({"a": np.ones(2)}, {"b": np.array([{}, {}])}), np.ones(2), r"`x\[1\]\['b'\]` is an arr"),
        ([np.ones(3), np.ones(3)], np.ones(2), "`x` is a list of arrays: pass a tuple"),
    ],
)
def test_arrays_that_are_no_numbers(x, y, match):
    with pytest.raises(TypeError, match=match):
        loops.Batches(x, y, 2)
