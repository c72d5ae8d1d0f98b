"""The table, read back and summed up independently."""

import keras
import numpy as np
import pytest

from gradloop import optim
from gradloop.optim import select, summary
from tests.keras_names import count_layers_anew

L = keras.layers


@pytest.fixture
def model():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Conv2D(6, 5, padding="same", name="conv1"),
            L.MaxPooling2D(),
            L.Conv2D(16, 5, name="conv2"),
            L.MaxPooling2D(),
            L.BatchNormalization(name="norm"),
            L.Flatten(),
            L.Dense(120, name="fc1"),
            L.Dense(84, name="fc2"),
            L.Dense(10, name="output"),
        ]
    )


def rows(table):
    """(parameters, state) of each line."""
    lines = [line.split() for line in table.splitlines()[1:-1]]
    return [(line[-4], line[-1]) for line in lines]


def test_table(model):
    table = summary(model, select(model, "conv")).splitlines()
    norm = f"{np.linalg.norm(model.weights[0].numpy()):.4g}"
    assert table[0].split() == ["name", "shape", "parameters", "dtype", "norm", "state"]
    assert table[1].split() == ["conv1/kernel", "(5,", "5,", "1,", "6)", "150", "float32", norm, "trains"]
    assert table[-2].split() == ["output/bias", "(10,)", "10", "float32", "0", "frozen"]
    assert table[-1] == "14 variables, 61,770 parameters, 2,572 train"


def test_sums_agree_with_keras(model):
    table = summary(model)
    counts = [(int(count.replace(",", "")), state) for count, state in rows(table)]
    assert sum(count for count, _ in counts) == model.count_params()
    trained = sum(count for count, state in counts if state == "trains")
    assert f"{model.count_params():,} parameters, {trained:,} train" in table
    assert trained == model.count_params() - 32


def test_default_is_what_is_trainable(model):
    model.get_layer("fc1").trainable = False
    assert summary(model) == summary(model, model.trainable_variables)
    states = {line.split()[0]: line.split()[-1] for line in summary(model).splitlines()[1:-1]}
    assert states["fc1/kernel"] == states["norm/moving_mean"] == "frozen"
    assert states["fc2/kernel"] == states["norm/gamma"] == "trains"


def test_columns_are_aligned(model):
    lines = summary(model).splitlines()[:-1]
    assert len({line.rindex(line.split()[-1]) for line in lines}) == 1
    # Numbers end where their heading ends.
    for heading in ("parameters", "norm"):
        end = lines[0].index(heading) + len(heading)
        assert all(line[end - 1].strip() and not line[end].strip() for line in lines)
    assert not any(line.endswith(" ") for line in lines)


def test_names_that_keras_shows_otherwise_get_a_column():
    count_layers_anew()
    L.Dense(1)
    ones = {"kernel_initializer": "ones", "bias_initializer": "ones"}
    other = keras.Sequential([keras.Input((2,)), L.Dense(3, **ones), L.Dense(4, name="head", **ones)])
    assert summary(other).splitlines() == [
        "name          shape   parameters  dtype     norm  state   name in Keras",
        "dense/kernel  (2, 3)           6  float32  2.449  trains  dense_1/kernel",
        "dense/bias    (3,)             3  float32  1.732  trains  dense_1/bias",
        "head/kernel   (3, 4)          12  float32  3.464  trains",
        "head/bias     (4,)             4  float32      2  trains",
        "4 variables, 25 parameters, 25 train",
    ]


def test_a_plan_tells_the_groups(model):
    groups = {"convolutions": optim.Group("conv", frozen=True), "dense": L.Dense}
    plan = optim.partition(model, groups, rest="train")
    lines = {line.split()[0]: line.split()[-2:] for line in summary(model, plan).splitlines()[1:-1]}
    assert summary(model, plan).splitlines()[0].split()[-2:] == ["group", "state"]
    assert lines["conv1/kernel"] == ["convolutions", "frozen"]
    assert lines["fc1/kernel"] == ["dense", "trains"]
    assert lines["norm/gamma"] == ["rest", "trains"]
    assert lines["norm/moving_mean"][-1] == "frozen" and lines["norm/moving_mean"][-2] == "0"  # in no group
    trained = sum(int(v.numpy().size) for v in plan.trained)
    assert summary(model, plan).endswith(f"{trained:,} train")


def test_dtype_and_norm_of_half_precision():
    keras.config.set_dtype_policy("float16")
    half = keras.Sequential([keras.Input((300,)), L.Dense(300, kernel_initializer="ones", name="wide")])
    # A sum of squares that float16 cannot hold.
    assert summary(half).splitlines()[1].split()[-3:] == ["float16", "300", "trains"]


def test_no_variables_train(model):
    assert summary(model, []).endswith("61,770 parameters, 0 train")


def test_variable_of_another_model(model):
    other = L.Dense(3, name="elsewhere")
    other.build((None, 2))
    with pytest.raises(ValueError, match=r"'elsewhere/kernel' of shape \(2, 3\), which is not a"):
        summary(model, [*model.trainable_variables, other.kernel])


@pytest.mark.parametrize("bad", ["conv", 3])
def test_variables_that_are_no_list(model, bad):
    with pytest.raises(TypeError, match="`variables` must be a list of variables"):
        summary(model, bad)


def test_a_bare_variable(model):
    with pytest.raises(TypeError, match="`variables` must be a list of variables"):
        summary(model, model.weights[0])


def test_filters_instead_of_variables(model):
    with pytest.raises(TypeError, match=r"filters go through `select\(model, ...\)`"):
        summary(model, ["conv"])


def test_unbuilt_and_wrong_models():
    with pytest.raises(optim.NotBuiltError, match="call it once on a batch"):
        summary(keras.Sequential([L.Dense(1)]))
    with pytest.raises(TypeError, match="`model` must be a keras.Model"):
        summary(None)
