"""The table, read back and summed up independently."""

import keras
import pytest

from gradloop import optim
from gradloop.optim import select, summary

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
    return [line.rsplit(None, 2) for line in table.splitlines()[1:-1]]


def test_table(model):
    table = summary(model, select(model, "conv")).splitlines()
    assert table[0] == "name                  shape          parameters  state"
    assert table[1] == "conv1/kernel          (5, 5, 1, 6)          150  trains"
    assert table[-2] == "output/bias           (10,)                  10  frozen"
    assert table[-1] == "14 variables, 61,770 parameters, 2,572 train"


def test_sums_agree_with_keras(model):
    table = summary(model)
    counts = [(int(count.replace(",", "")), state) for _, count, state in rows(table)]
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
    end = lines[0].index("parameters") + len("parameters")
    assert all(line[end - 1].strip() and not line[end].strip() for line in lines)
    assert not any(line.endswith(" ") for line in lines)


def test_names_that_keras_shows_otherwise_get_a_column():
    keras.utils.clear_session()
    L.Dense(1)
    other = keras.Sequential([keras.Input((2,)), L.Dense(3), L.Dense(4, name="head")])
    assert summary(other).splitlines() == [
        "name          shape   parameters  state   name in Keras",
        "dense/kernel  (2, 3)           6  trains  dense_1/kernel",
        "dense/bias    (3,)             3  trains  dense_1/bias",
        "head/kernel   (3, 4)          12  trains",
        "head/bias     (4,)             4  trains",
        "4 variables, 25 parameters, 25 train",
    ]


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
