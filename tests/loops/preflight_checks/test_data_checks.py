"""Inputs and labels with a fault, and without."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.preflight_checks.trial import Trial

from .conftest import message, names


def test_a_network_and_data_without_faults(lab):
    report = lab.report()
    assert names(report) == []
    assert report.passed["missing_classes"] == "all 3 classes are among all 96 examples"


def test_inputs_that_are_not_finite(lab):
    x = lab.x.copy()
    x[3, 2], x[50, 0] = np.nan, np.inf
    report = lab.report(data=lab.data(x))
    assert "`x` holds 2 values of 768 that are NaN or infinite" in message(report, "finite_inputs")


def test_gaps_that_the_network_fills_itself(lab):
    x = lab.x.copy()
    x[3, 2] = np.nan
    fill = keras.layers.Lambda(lambda x: tf.where(tf.math.is_nan(x), 0.0, x))
    model = keras.Sequential([keras.Input((8,)), fill, keras.layers.Dense(3, "softmax")])
    assert "finite_inputs" in names(lab.report(lab.step(model), lab.data(x)))
    assert names(lab.report(lab.step(model, on_nonfinite="ignore"), lab.data(x))) == []


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.full((96, 8), 0.5), "is 0.5 everywhere"),
        (np.tile(np.arange(8.0), (96, 1)), "is the same for all of 96"),
    ],
)
def test_inputs_that_do_not_change(lab, x, said):
    assert said in message(lab.report(data=lab.data(x)), "changing_inputs")


def test_a_mask_of_ones_beside_other_inputs_is_fine(lab):
    inputs = {"a": keras.Input((8,), name="a"), "mask": keras.Input((1,), name="mask")}
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(inputs["a"] * inputs["mask"]))
    data = lab.data({"a": lab.x, "mask": np.ones((96, 1), "float32")})
    assert names(lab.report(lab.step(model), data)) == []


@pytest.mark.parametrize("first", ["nothing", "rescaling", "normalization", "batch norm", "operations"])
def test_pixels_from_0_to_255(lab, first):
    x = (255 * (lab.x - lab.x.min()) / np.ptp(lab.x)).astype("float32")
    layers = keras.layers
    made = {
        "nothing": [],
        "rescaling": [layers.Rescaling(1 / 255)],
        "normalization": [layers.Normalization(mean=128.0, variance=900.0)],
        "batch norm": [layers.BatchNormalization()],
        "operations": [layers.Lambda(lambda x: x / 127.5 - 1)],
    }[first]
    report = lab.report(
        lab.step(keras.Sequential([keras.Input((8,)), *made, layers.Dense(3, "softmax")])), lab.data(x)
    )
    assert ("input_range" in names(report)) == (first == "nothing")
    if first == "nothing":
        assert "keras.layers.Rescaling(1 / 255)" in message(report, "input_range")


def test_numbers_of_words_are_no_pixels(lab):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Embedding(256, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    report = lab.report(lab.step(model), lab.data(np.random.RandomState(0).randint(0, 256, (96, 8))))
    assert names(report) == [] and "input_range" in report.left_out


@pytest.mark.parametrize("kind", ["batches", "dataset"])
def test_labels_in_order(lab, kind):
    order = np.argsort(lab.y, kind="stable")
    x, y = lab.x[order], lab.y[order]
    data = lab.data(x, y, 8, shuffle=False)
    mixed = lab.data(x, y, 8)
    if kind == "dataset":
        examples = tf.data.Dataset.from_tensor_slices((x, y))
        data, mixed = examples.batch(8), examples.shuffle(96, seed=1).batch(8)
    assert "shuffle" in message(lab.report(data=data), "label_order")
    assert names(lab.report(data=mixed)) == []


def test_batches_made_of_some_of_each_class_are_in_no_order(lab):
    y = np.tile(np.repeat([0, 1, 2], 4), 8)  # 4 of each in a batch, one class after the other
    assert names(lab.report(data=lab.data(lab.x, y, 12, shuffle=False))) == []


def test_small_sorted_data_prove_nothing(lab):
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    few = lab.data(lab.x[:8], y, 4, shuffle=False)
    assert names(lab.report(lab.step(lab.net(2)), few)) == []
    one = lab.data(lab.x[:8], y, 32, shuffle=False)  # fewer examples than a batch
    assert "one batch" in lab.report(lab.step(lab.net(2)), one).left_out["label_order"]


def test_one_class_at_the_beginning_of_a_dataset(lab):
    y = np.repeat(np.arange(3), 400)
    data = tf.data.Dataset.from_tensor_slices((np.random.RandomState(0).rand(1200, 8), y)).batch(8)
    report = lab.report(data=data)
    assert names(report) == ["missing_classes"]
    assert "none is of 1, 2" in message(report, "missing_classes") and "shuffle" in message(
        report, "missing_classes"
    )


def test_outputs_without_examples(lab):
    report = lab.report(lab.step(lab.net(5)))
    assert "3 of 5 classes: none is of 3, 4" in message(report, "missing_classes")
    # A few of many examples say nothing about 40 classes.
    data = tf.data.Dataset.from_tensor_slices((lab.x, lab.y)).repeat().batch(4)
    assert "too few" in lab.report(lab.step(lab.net(40)), data).left_out["missing_classes"]


def test_classes_of_very_different_size(lab):
    y = np.zeros(96, int)
    y[:6] = 1
    report = lab.report(lab.step(lab.net(2)), lab.data(lab.x, y))
    assert "90 are of class 0 and 6 of class 1" in message(report, "class_balance")
    assert "94%" in message(report, "class_balance")
    weighted = lab.data(lab.x, y, sample_weight=np.where(y, 15.0, 1.0))
    assert lab.report(lab.step(lab.net(2)), weighted).left_out["class_balance"] == "examples have weights"


def test_labels_that_are_no_classes_are_left_out(lab):
    for step, data in (
        (lab.step(lab.net(1, None), "mse"), lab.data(y=lab.numbers)),
        (lab.step(loss=lambda model, batch: tf.reduce_mean(model(batch[0]))), lab.data()),
    ):
        report = lab.report(step, data)
        assert names(report) == []
        assert {"label_order", "missing_classes", "class_balance"} <= set(report.left_out)


@pytest.mark.parametrize(("real", "kept", "waits"), [(0.030, 0.010, True), (0.011, 0.010, False)])
def test_waiting_for_data(lab, real, kept, waits):
    data = tf.data.Dataset.from_tensor_slices((lab.x, lab.y)).shuffle(96).batch(16)
    report = lab.report(
        data=data, trial=Trial({"all": [1e-3]}, [1.0] * 20, set(), [real] * 5, [kept] * 5, None)
    )
    assert ("waiting_for_data" in names(report)) == waits
    if waits:
        assert "67% is waiting" in message(report, "waiting_for_data")
        assert "prefetch" in message(report, "waiting_for_data")


def test_a_batches_is_not_waited_for(lab):
    assert isinstance(lab.data(), loops.Batches)
    assert "on the device" in lab.report().left_out["waiting_for_data"]
