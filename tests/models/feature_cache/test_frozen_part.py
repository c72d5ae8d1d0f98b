"""Where the frozen part ends: by what trains, with dropout and augmentation on either side."""

import keras
import pytest

from gradloop import models, optim
from gradloop.models.feature_cache.frozen_part import augmentations, split_frozen, trained_variables

L = keras.layers


def chain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.RandomFlip(name="flip"),
            L.Conv2D(4, 3, name="conv1"),
            L.Dropout(0.1, name="between"),
            L.Conv2D(4, 3, name="conv2"),
            L.GlobalAveragePooling2D(name="pool"),
            L.Dropout(0.5, name="before"),
            L.Dense(4, name="hidden"),
            L.Dense(2, name="head"),
        ],
        name="net",
    )


def named(model, *filters):
    return split_frozen(model, trained_variables(model, list(filters)))


def rest_of(parts):
    return [layer.name for layer in parts.rest.layers if not isinstance(layer, L.InputLayer)]


@pytest.mark.parametrize(
    ("filters", "rest"),
    [
        (["head"], ["head"]),
        (["hidden", "head"], ["before", "hidden", "head"]),
        (["hidden"], ["before", "hidden", "head"]),
        (["conv2"], ["between", "conv2", "pool", "before", "hidden", "head"]),
    ],
)
def test_the_cut_is_as_late_as_it_can_be(filters, rest):
    # Dropout with frozen weights after it stays in the frozen part, where it is off.
    assert rest_of(named(chain(), *filters)) == rest


def test_kinds_of_choices():
    model = chain()
    plan = optim.partition(model, {"body": optim.Group("conv", frozen=True)}, rest="train")
    expected = optim.select(model, "hidden", "head")
    for trained in (plan, expected, ["hidden", "head"]):
        assert [id(v) for v in trained_variables(model, trained)] == [id(v) for v in expected]
    assert len(trained_variables(model, L.Dense)) == 4
    with pytest.raises(optim.SelectionError, match="heed"):
        trained_variables(model, "heed")
    with pytest.raises(
        ValueError,
        match="`trained` holds 'net/head/kernel', which is not a trainable variable of model 'net'",
    ):
        trained_variables(model, chain().get_layer("head").trainable_variables)
    with pytest.raises(ValueError, match="`trained` is a plan whose groups are all frozen"):
        trained_variables(model, optim.partition(model, {"all": optim.Group("*", frozen=True)}))
    with pytest.raises(ValueError, match="`trained` is a plan whose groups are all frozen"):
        trained_variables(model, optim.partition(model, {"all": optim.Group("*", frozen=True)}))


def test_augmentation_is_told_from_dropout():
    assert augmentations(named(chain(), "head").front) == ["flip"]
    assert augmentations(models.lenet5_sequential(dropout=0.5)) == []


def test_nothing_is_frozen_before():
    with pytest.raises(ValueError, match="no layer with weights is frozen before 'conv1'"):
        named(chain(), "conv1", "head")
    with pytest.raises(ValueError, match="whose code alone knows"):
        named(models.LeNet5(), "fc3")
