"""Labels and targets that do not fit: what is said of each, by us and from TensorFlow's kernels."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.loss.keras_loss import resolve_loss
from gradloop.loops.loss.labels import (
    check_label_spec,
    check_label_values,
    check_target_shape,
    label_error,
    on_host,
    takes_class_indices,
)

X = np.random.RandomState(0).rand(6, 4).astype("float32")
GOOD = np.array([0, 1, 2, 0, 1, 2])


def labelled_step(loss="sparse_categorical_crossentropy", cls=loops.TrainStep, **options):
    keras.utils.set_random_seed(0)
    norm = keras.layers.BatchNormalization()  # which a bad batch must leave alone, too
    model = keras.Sequential([keras.Input((4,)), norm, keras.layers.Dense(3, "softmax")])
    more = ["sgd"] if cls is loops.TrainStep else []
    return cls(model, loss, *more, **options)


@pytest.mark.parametrize(
    "loss, takes",
    [
        (keras.losses.SparseCategoricalCrossentropy(), True),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), True),
        (keras.losses.SparseCategoricalCrossentropy(ignore_class=-1), False),
        (resolve_loss("sparse_categorical_crossentropy"), True),
        (keras.losses.CategoricalCrossentropy(), False),
        (keras.losses.MeanSquaredError(), False),
        (lambda model, batch: 0.0, False),
    ],
)
def test_which_losses_take_class_indices(loss, takes):
    assert takes_class_indices(loss) is takes


def test_a_column_of_labels_is_no_one_hot():
    step = labelled_step()
    assert np.isfinite(float(step(X, GOOD[:, None])["loss"]))


OUTPUTS = {
    (3,): "`y` has shape (batch,) and the network's outputs have (batch, 3)",
    (3, 1): "`y` has shape (batch, 1) and",
    (3, 2): "`y` has shape (batch, 2) and",
    (3, 3, 3): "`y` has shape (batch, 3, 3) and",
}


@pytest.mark.parametrize(
    "loss, shape",
    [
        pytest.param(loss, shape, marks=pytest.mark.long if number and shape != (3,) else ())
        for number, loss in enumerate(("mse", "huber", "categorical_crossentropy", "binary_crossentropy"))
        for shape in OUTPUTS
    ],
)
def test_targets_of_another_shape_than_the_outputs(shape, loss):
    """Of as many examples as outputs, Keras would compare each output with every target."""
    step = labelled_step(loss)
    before = step.model.get_weights()
    for y in (np.ones(shape), np.ones(shape, "int64")):
        with pytest.raises(loops.LabelError, match=re.escape(OUTPUTS[shape])) as caught:
            step(X[:3], y)
        classes = y.dtype == "int64" and shape in ((3,), (3, 1))
        assert ("'sparse_categorical_crossentropy'" in str(caught.value)) == classes
        with pytest.raises(loops.LabelError, match="one by one"):
            loops.evaluate(labelled_step(loss, cls=loops.EvalStep), loops.Batches(X[:3], y, 3))
    for now, then in zip(step.model.get_weights(), before):
        np.testing.assert_array_equal(now, then)


def test_one_target_for_a_whole_sequence():
    """Outputs of every time step where one was meant."""
    with pytest.raises(loops.LabelError, match="one by one: change one of the two") as caught:
        check_target_shape(keras.losses.MeanSquaredError(), tf.zeros((2, 1), tf.int32), tf.zeros((2, 5, 1)))
    assert "classes" not in str(caught.value)


def test_targets_that_fit_the_outputs():
    """One output, with a dimension of its own or without, is the same to Keras."""
    entropy, y = keras.losses.BinaryCrossentropy(), tf.constant([1.0, 0.0])
    check_target_shape(entropy, y, tf.zeros((2, 1)))
    check_target_shape(entropy, y[:, None], tf.zeros((2,)))
    check_target_shape(entropy, tf.zeros((2, 5)), tf.zeros((2, 5, 1)))
    # One target for all patches, one for all time steps.
    check_target_shape(entropy, tf.zeros((2, 1, 1, 1)), tf.zeros((2, 4, 4, 1)))
    check_target_shape(entropy, tf.zeros((2, 1, 3)), tf.zeros((2, 5, 3)))
    check_target_shape(entropy, {"a": y}, {"a": tf.zeros((2, 3))})
    check_target_shape(lambda y, predictions: y, y, tf.zeros((2, 3)))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    x, y = X, np.arange(6.0)
    values = [float(loops.EvalStep(model, "mse")(x, each)["loss"]) for each in (y, y[:, None])]
    expected = np.mean((model(x).numpy()[:, 0] - y) ** 2)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_an_ignored_class_may_be_out_of_range():
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    labels = np.where(GOOD == 2, -1, GOOD)
    assert np.isfinite(float(labelled_step(loss)(X, labels)["loss"]))


def test_labels_of_each_timelabelled_step():
    check_label_spec(tf.zeros((2, 5), tf.int32), tf.zeros((2, 5, 3)))
    check_label_spec(tf.zeros((2, 5, 1), tf.int32), tf.zeros((2, 5, 3)))
    with pytest.raises(loops.LabelError, match=r"\(2, 5, 3\), which looks one-hot"):
        check_label_spec(tf.zeros((2, 5, 3), tf.int32), tf.zeros((2, 5, 3)))
    with pytest.raises(loops.LabelError, match="`y` is float32"):
        check_label_spec(tf.zeros((2, 5)), tf.zeros((2, 5, 3)))


def test_values_of_any_shape():
    check_label_values(np.array([[0, 1], [2, 0]], "uint8"), 3)
    check_label_values(np.zeros((0,), "int32"), 3)
    check_label_values(tf.constant([2]), 3)
    with pytest.raises(loops.LabelError, match="label 200"):
        check_label_values(np.array([[0, 200]], "uint8"), 3)


def test_other_errors_are_left_alone():
    assert label_error(ValueError("something else"), 3) is None


def test_what_is_on_the_host():
    assert on_host(np.ones(3))
    with tf.device("CPU:0"):
        assert on_host(tf.identity(tf.ones(3)))
    assert not on_host([1, 2])

    @tf.function
    def graph(x):
        assert not on_host(x)
        return x

    graph(tf.ones(3))


def test_a_label_that_a_loss_function_of_ones_own_refuses():
    """It does not tell how many classes there are."""

    def loss(model, batch):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], model(batch[0]))
        return tf.reduce_mean(losses)

    with pytest.raises(ValueError, match="`y` holds the label 7, but the network has no output for it"):
        labelled_step(loss)(X, np.array([0, 1, 2, 0, 1, 7]))


@pytest.mark.parametrize("label, way_out", [(-1, "the labels from 0 on."), (5, "network 6 outputs.")])
def test_the_way_out_fits_the_label(label, way_out):
    with pytest.raises(ValueError) as caught:
        check_label_values(np.array([0, label]), 3)
    assert str(caught.value).endswith(way_out)
