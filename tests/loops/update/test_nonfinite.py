"""A NaN or infinity never reaches a weight, and the error says where it was."""

import contextlib
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.update.nonfinite import all_finite, check_finite, has_nan, nonfinite_inputs

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, size=40)
BAD = X.copy()
BAD[26, 1] = np.nan


def norm_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(3, "softmax", name="head"),
        ]
    )


def make(model, **options):
    return loops.TrainStep(model, "sparse_categorical_crossentropy", keras.optimizers.SGD(0.1), **options)


def assert_same(model, weights):
    for left, right in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


@pytest.mark.numbers
@pytest.mark.parametrize("source", ["call", "arrays", "dataset"])
def test_raise_names_step_and_variable_and_keeps_the_weights(run_all, source):
    model, good = norm_model(), norm_model()
    step, reference = make(model), make(good)
    for start in (0, 8, 16):
        reference(X[start : start + 8], Y[start : start + 8])
    with pytest.raises(loops.NonFiniteError, match="step 4: .*'hidden/kernel'.*weights are those") as caught:
        run_all(step, source, BAD, Y)
    assert (caught.value.step, caught.value.variable) == (4, "hidden/kernel")
    if source != "dataset":
        assert "1 value that is not finite" in str(caught.value)
    if source != "call":
        assert len(caught.value.records) == 3, "the steps before it are not lost"
    assert_same(model, good.get_weights())
    assert int(step.optimizer.iterations) == 3
    step(X[:8], Y[:8])  # and training goes on


def test_the_iterator_stands_at_the_bad_batch():
    step = make(norm_model())
    iterator = iter(loops.Batches(BAD, Y, 8, shuffle=False))
    with pytest.raises(loops.NonFiniteError):
        step.run(iterator, 5)
    assert iterator.position == 3


@pytest.mark.numbers
def test_skip_passes_over_the_step_statistics_included():
    model, good = norm_model(), norm_model()
    step, reference = make(model, on_nonfinite="skip"), make(good)
    values = step.run(iter(loops.Batches(BAD, Y, 8, shuffle=False)), 5)
    for start in (0, 8, 16, 32):
        reference(X[start : start + 8], Y[start : start + 8])
    assert np.isnan(values["loss"]).tolist() == [False, False, False, True, False]
    assert_same(model, good.get_weights())
    assert int(step.optimizer.iterations) == 4


def test_ignore_does_not_look():
    model = norm_model()
    make(model, on_nonfinite="ignore")(BAD[24:32], Y[24:32])
    assert np.isnan(model.get_weights()[0]).any()


def test_a_bad_loss_with_finite_gradients():
    model = norm_model()

    def loss(model, batch):
        x, y = batch
        value = tf.reduce_mean(model(x, training=True) ** 2)
        return value + tf.stop_gradient(tf.reduce_max(x)) * float("inf")

    step = loops.TrainStep(model, loss, "sgd", variables="head")
    with pytest.raises(loops.NonFiniteError, match="step 1: the loss is not finite") as caught:
        step(X[:8], Y[:8])
    assert caught.value.variable is None


def test_the_first_bad_variable_in_the_models_order():
    model = norm_model()
    names = list(optim.named_variables(model))

    def loss(model, batch):  # the head's kernel alone has a bad gradient: sqrt'(0) = inf
        kernel = model.get_layer("head").kernel
        total = tf.add_n([tf.reduce_sum(v) for v in model.trainable_variables])
        return total + tf.reduce_sum(tf.sqrt(kernel * 0.0)) + 0 * tf.reduce_sum(batch[0])

    with pytest.raises(loops.NonFiniteError) as caught:
        loops.TrainStep(model, loss, "sgd")(X[:8], Y[:8])
    assert caught.value.variable == "head/kernel" and "head/kernel" in names


def test_check_finite_and_all_finite():
    slices = tf.IndexedSlices(tf.constant([[np.inf]]), tf.constant([0]), tf.constant([2, 1]))
    good = tf.constant([1.0])
    assert bool(all_finite([good])) and not bool(all_finite([good, slices]))
    check_finite([good, good], ["a", "b"], good)
    with pytest.raises(tf.errors.InvalidArgumentError, match="non-finite gradient of <b>"):
        check_finite([good, slices], ["a", "b"])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
@pytest.mark.parametrize("bad", [(np.nan,), (np.inf,), (-np.inf,), (np.inf, -np.inf), (np.nan, np.inf)])
@pytest.mark.parametrize("size", [7, 256, 10_000])
def test_no_bad_element_is_lost_in_a_sum(dtype, bad, size):
    values = np.random.default_rng(0).normal(size=size)
    good = tf.constant(values, dtype)
    values[np.random.default_rng(1).choice(size, len(bad), replace=False)] = bad
    for shape in ([-1], [1, -1], [-1, 1, 1]):
        some = tf.reshape(tf.constant(values, dtype), shape)
        assert not all_finite([good, some])
        with pytest.raises(tf.errors.InvalidArgumentError, match="non-finite gradient of <bad>"):
            check_finite([good, some], ["good", "bad"])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
def test_large_gradients_are_finite(dtype):
    # 1,000 of them add up to more than float16 holds.
    some = [tf.fill([1000], tf.cast(60_000, dtype)), tf.zeros([0, 3], dtype), tf.constant(dtype.max, dtype)]
    assert all_finite(some)
    assert np.isfinite(check_finite(some, ["large", "empty", "largest"]).numpy())


def test_sums_of_slices_and_of_shapes_not_known():
    both = tf.IndexedSlices(tf.constant([[np.inf], [-np.inf]]), tf.constant([0, 3]), tf.constant([4, 1]))
    assert not all_finite([both])

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def look(value):
        return all_finite([value])

    assert look(tf.ones([2, 3])) and not look(tf.constant([[1.0, np.nan]]))


@pytest.mark.parametrize(("elements", "finite"), [(256, True), (257, False)])
def test_large_numbers_in_small_tensors_are_finite(elements, finite):
    # The price of adding, which large tensors alone pay: 2e38 twice is more than float32 holds.
    large = tf.fill([elements], 2e38)
    assert bool(all_finite([large])) is finite
    with contextlib.nullcontext() if finite else pytest.raises(tf.errors.InvalidArgumentError):
        check_finite([large], ["large"])


@pytest.mark.numbers("float32")  # around layers of float16: twice the same kernels
@pytest.mark.parametrize(
    ("source", "jit_compile"),
    [
        ("arrays", False),
        ("arrays", True),
        *(pytest.param(source, False, marks=pytest.mark.release) for source in ("call", "dataset")),
    ],
)
def test_bad_inputs_are_no_overflow(run_all, source, jit_compile):
    """A loss scale may be what makes gradients infinite; of NaN in the inputs it is innocent."""
    keras.config.set_dtype_policy("mixed_float16")
    model, good = norm_model(), norm_model()
    step, reference = make(model, jit_compile=jit_compile), make(good, jit_compile=jit_compile)
    for start in (0, 8, 16):
        reference(X[start : start + 8], Y[start : start + 8])
    with pytest.raises(loops.NonFiniteError, match="step 4: .*'hidden/kernel'") as caught:
        run_all(step, source, BAD, Y)
    assert source == "call" or len(caught.value.records) == 3, "the step that failed was recorded"
    assert_same(model, good.get_weights())
    assert float(step.optimizer.dynamic_scale) == float(reference.optimizer.dynamic_scale)


@pytest.mark.numbers("float32")  # around layers of float16: twice the same kernels
@pytest.mark.parametrize(
    ("bad", "on_nonfinite", "jit_compile"),
    [
        (1e30, "raise", False),
        (np.nan, "skip", False),
        pytest.param(np.inf, "raise", True, marks=pytest.mark.long),
        pytest.param(np.inf, "raise", False, marks=pytest.mark.release),
        pytest.param(1e30, "raise", True, marks=pytest.mark.long),
        pytest.param(np.nan, "skip", True, marks=pytest.mark.release),
    ],
)
def test_what_may_be_an_overflow_is_skipped(run_all, bad, on_nonfinite, jit_compile):
    keras.config.set_dtype_policy("mixed_float16")
    model, good = norm_model(), norm_model()
    step = make(model, on_nonfinite=on_nonfinite, jit_compile=jit_compile)
    reference = make(good, jit_compile=jit_compile)
    x = np.nan_to_num(BAD, nan=bad)
    run_all(step, "arrays", x, Y)
    for start in (0, 8, 16):
        reference(X[start : start + 8], Y[start : start + 8])
    scale = reference.optimizer.dynamic_scale
    scale.assign(float(scale) / 2)  # as Keras does after an overflow
    reference(X[32:], Y[32:])
    assert_same(model, good.get_weights())
    assert float(step.optimizer.dynamic_scale) == float(scale)


def test_other_tensorflow_errors_pass():
    def broken(model, batch):
        with tf.control_dependencies([tf.debugging.Assert(tf.size(batch[0]) < 0, ["of my own"])]):
            return tf.reduce_mean(model(batch[0], training=True))

    with pytest.raises(tf.errors.InvalidArgumentError, match="of my own"):
        loops.TrainStep(norm_model(), broken, "sgd")(X[:8], Y[:8])


class Filled(keras.layers.Layer):
    def call(self, x):
        return tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)


@pytest.mark.numbers("float32")  # around layers of float16: twice the same kernels
@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_an_overflow_in_a_model_that_fills_gaps(on_nonfinite, run_all):
    """NaN in a batch is not to blame where the loss is finite."""
    keras.config.set_dtype_policy("mixed_float16")
    steps = []
    for layers in ([Filled()], []):
        model = keras.Sequential([keras.Input((4,)), *layers, *norm_model().layers])
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**24)
        loss = "sparse_categorical_crossentropy"
        steps.append(loops.TrainStep(model, loss, optimizer, on_nonfinite=on_nonfinite))
    filled, plain = steps
    run_all(filled, "arrays", np.full_like(X, np.nan), Y)
    run_all(plain, "arrays", np.zeros_like(X), Y)
    assert float(filled.optimizer.dynamic_scale) == float(plain.optimizer.dynamic_scale) < 2.0**24
    assert_same(filled.model, plain.model.get_weights())


def test_has_nan():
    sparse = tf.SparseTensor([[0, 1]], [np.nan], [2, 3])
    assert has_nan((sparse, None)) and not has_nan((tf.sparse.map_values(tf.ones_like, sparse), None))
    numbers, words = tf.constant([np.inf, -np.inf, 1.0]), tf.constant([1, 2])
    assert not has_nan((numbers, words)) and not has_nan(words)
    assert has_nan({"a": numbers, "b": tf.constant([[1.0, np.nan]], tf.float16)})


def test_nonfinite_inputs_counts():
    assert nonfinite_inputs((tf.constant([1.0, np.nan, np.inf]), tf.constant([1]))).startswith(
        " The inputs of this batch hold 2"
    )
    assert nonfinite_inputs((tf.constant([1.0]),)) == ""


def test_the_error_survives_pickling():
    error = loops.NonFiniteError.at(3, "conv1/kernel")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and copy.step == 3 and copy.variable == "conv1/kernel"
