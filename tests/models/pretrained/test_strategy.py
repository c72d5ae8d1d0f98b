"""Recommendations: the four cells of the table, as plans."""

import keras
import pytest

from gradloop import models, optim

L = keras.layers


@pytest.fixture(scope="module")
def model():
    return models.classifier(models.backbone("VGG16", (32, 32, 3)), 5, hidden=(8,))


def owners(variables):
    return list(dict.fromkeys(variable.path.split("/")[-2] for variable in variables))


HEAD = ["head_hidden1", "head"]
# Thirteen convolutions: the last third is four.
TOP = ["block4_conv3", "block5_conv1", "block5_conv2", "block5_conv3"]


@pytest.mark.parametrize(
    ("examples", "similar", "name", "trained"),
    [
        (2_000, True, "head", HEAD),
        (2_000, False, "top", TOP + HEAD),
        (4_999, False, "top", TOP + HEAD),
        (5_000, True, "top", TOP + HEAD),
        (1_000_000, False, "all", None),
    ],
)
def test_the_table(model, examples, similar, name, trained):
    strategy = models.recommend(examples, similar=similar)
    assert strategy.name == name
    assert f"{examples:,} examples" in strategy.reason and strategy.reason in str(strategy)
    plan = optim.partition(model, strategy)
    everything = owners(model.trainable_variables)
    assert owners(plan.trained) == (trained or everything)
    assert len(plan.order) == len(model.trainable_variables)
    assert plan.groups["head"].lr_scale == 1.0
    if name == "top":
        assert plan.groups["top"].lr_scale == 0.1


def test_filters_of_ones_own(model):
    strategy = models.recommend(9_000, True, head=optim.last_layers(1), top="block5*")
    plan = optim.partition(model, strategy)
    assert owners(plan.trained) == ["block5_conv1", "block5_conv2", "block5_conv3", "head"]
    with pytest.raises(optim.SelectionError, match="block9"):
        optim.partition(model, models.recommend(9_000, True, top="block9*"))


@pytest.mark.parametrize(("name", "trained"), [("head", HEAD), ("top", TOP + HEAD), ("all", None)])
def test_one_of_the_three_by_name(model, name, trained):
    strategy = models.Strategy.named(name)
    assert str(strategy).endswith(": as asked for.")
    plan = optim.partition(model, strategy)
    assert owners(plan.trained) == (trained or owners(model.trainable_variables))
    by_filter = models.Strategy.named(name, head=optim.last_layers(1), top="block5*")
    assert owners(optim.partition(model, by_filter).trained)[-1] == "head"


def test_an_unknown_name():
    with pytest.raises(ValueError, match="`name` must be one of 'head', 'top', 'all', not 'bottom'"):
        models.Strategy.named("bottom")


def test_a_small_network():
    small = keras.Sequential([keras.Input((2,)), L.Dense(2, name="a"), L.Dense(2, name="b")])
    small = keras.Sequential([*small.layers, L.Dense(2, name="c"), L.Dense(2, name="head")])
    small.build((None, 2))
    assert owners(optim.partition(small, models.recommend(9_000, True)).trained) == ["c", "head"]


def attention(x, name):
    """Written out, with its skip connection."""
    query, key, value = (L.Dense(4, name=f"{name}_{part}")(x) for part in ("query", "key", "value"))
    scores = keras.ops.softmax(keras.ops.matmul(query, keras.ops.transpose(key, (0, 2, 1))))
    return x + keras.ops.matmul(scores, value)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_top_cuts_no_block_in_two(count):
    h = x = keras.Input((3, 4))
    for number in range(count):
        h = attention(h, f"block{number}")
    model = keras.Model(x, L.Dense(2, name="head")(h))
    trained = owners(optim.partition(model, models.Strategy.named("top")).trained)
    blocks = [f"block{number}" for number in range(count)][-max(count // 3, 1) :]
    assert set(trained) == {f"{block}_{part}" for block in blocks for part in ("query", "key", "value")} | {
        "head"
    }


def test_a_single_block_has_no_top():
    x = keras.Input((3, 4))
    model = keras.Model(x, L.Dense(2, name="head")(attention(x, "block")))
    with pytest.raises(optim.SelectionError, match=r"`top`: <last third .* is depth\(block_.*, one block"):
        optim.partition(model, models.Strategy.named("top"))
    assert len(optim.partition(model, models.Strategy.named("top", top="block_value")).trained) == 4


@pytest.mark.parametrize("examples", [0, -1, 2.5, "many"])
def test_bad_examples(examples):
    with pytest.raises((ValueError, TypeError), match="`examples` must be .*at least 1, got"):
        models.recommend(examples, similar=True)


def test_bad_similar():
    with pytest.raises(TypeError, match="`similar` must be True or False, got 'yes'"):
        models.recommend(10, similar="yes")  # type: ignore[arg-type]
