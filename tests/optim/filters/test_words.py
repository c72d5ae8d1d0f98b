"""A plain string is found at words: what it finds, and what it finds no more."""

import functools

import keras
import numpy as np
import pytest

from gradloop import models, optim
from gradloop.optim import select

L = keras.layers


def chosen(model, *filters):
    """The layers, by the first component of their stable names, of what is selected."""
    ids = {id(variable) for variable in select(model, *filters)}
    names = optim.named_variables(model).items()
    return list(dict.fromkeys(name.split("/")[0] for name, variable in names if id(variable) in ids))


@functools.cache
def transformer(head="head"):
    x = h = keras.Input((4, 8))
    for _ in range(2):
        h = L.Add()([h, L.MultiHeadAttention(2, 4)(h, h)])
        h = L.LayerNormalization()(h)
        h = L.Add()([h, L.Dense(8)(h)])
    h = L.GroupQueryAttention(4, 2, 2)(h, h)
    return keras.Model(x, L.Dense(3, name=head)(L.GlobalAveragePooling1D()(h)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("head", ["head"]),
        ("multi_head", ["multi_head_attention", "multi_head_attention_1"]),
        ("attention", ["multi_head_attention", "multi_head_attention_1", "grouped_query_attention"]),
        ("dense", ["dense", "dense_1"]),  # and no `query_dense` of Keras' own
        ("query", ["multi_head_attention", "multi_head_attention_1", "grouped_query_attention"]),
        ("norm", ["layer_normalization", "layer_normalization_1"]),
        ("attention_1", ["multi_head_attention_1"]),
    ],
)
def test_a_transformer(text, found):
    assert chosen(transformer(), text) == found


def test_the_head_alone_trains_two_variables():
    model = transformer()
    plan = optim.partition(model, models.Strategy.named("head"))
    assert plan.trained == model.get_layer("head").trainable_variables == select(model, "head")
    assert plan.frozen == select(model, ~optim.name("head"))
    # By parts of Keras' layers only where no layer of the model is called so.
    assert chosen(transformer("output"), "output") == ["output"]
    assert len(select(model, "query")) == 6
    match = r"within words, where text is not searched: multi_head_attention.* write '\*head\*'"
    with pytest.raises(optim.SelectionError, match=match):
        select(transformer("classes"), "head")


class ResBlock(keras.layers.Dense):
    pass


class SeparableConv(keras.layers.Dense):
    pass


ALL = """
    conv1 conv1d_2 conv10 block1_conv2 block10_conv1_bn block1a_expandConv stem_conv convs sepconv2 deconvolve
    convnext_stem ConvNeXt_stage resnext50
    fc fc_1 fc_10 my_fc fc1_head head_hidden1 multihead_attn overhead densenet121 dense_top stop resblock
""".split()


@functools.cache
def every_name():
    classes = {"resblock": ResBlock, "sepconv2": SeparableConv}
    layers = [classes.get(name, L.Dense)(1, name=name) for name in ALL]
    return keras.Sequential([keras.Input((1,)), *layers])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("conv", "conv1 conv1d_2 conv10 block1_conv2 block10_conv1_bn stem_conv convs sepconv2"),
        ("Conv", "block1a_expandConv"),
        ("conv1", "conv1 block10_conv1_bn"),
        ("block", "block1_conv2 block10_conv1_bn block1a_expandConv resblock"),
        ("block1", "block1_conv2 block1a_expandConv"),
        ("fc", "fc fc_1 fc_10 my_fc fc1_head"),
        ("fc_1", "fc_1"),
        ("1", "conv1 block1_conv2 block10_conv1_bn block1a_expandConv fc_1 fc1_head head_hidden1"),
        ("head", "fc1_head head_hidden1"),
        ("dense", "dense_top"),
        ("top", "dense_top"),
        ("_top", "dense_top"),
    ],
)
def test_names_of_layers(text, found):
    assert chosen(every_name(), text) == found.split()


def test_a_nested_network_is_named_as_a_whole():
    x = keras.Input((4,))
    base = keras.Model(x, L.Dense(3, name="fc")(L.Dense(3, name="stem")(x)), name="densenet121")
    outer = keras.Input((4,))
    model = keras.Model(outer, L.Dense(2)(base(outer)))
    assert chosen(model, "dense") == ["dense"]
    assert select(model, "densenet") == select(model, "densenet121") == base.weights


class Block(keras.Model):
    """Names of one's own: attributes."""

    def __init__(self):
        super().__init__()
        self.multi_head_attn = L.MultiHeadAttention(2, 4)
        self.heads = [L.Dense(8)]
        self.rows = L.TimeDistributed(keras.Sequential([L.Dense(8, name="output_row")]))

    def call(self, x):
        return self.rows(self.heads[0](self.multi_head_attn(x, x)))


def test_a_subclassed_model():
    model = Block()
    model(np.zeros((1, 3, 8), "float32"))
    assert chosen(model, "head") == ["heads"]
    # What a user calls so within a layer of Keras is the user's.
    assert chosen(model, "output") == ["rows"]
    assert chosen(model, "bias") == ["multi_head_attn", "heads", "rows"]
    plan = optim.partition(model, {"head": "head"}, rest="freeze")
    assert plan.trained == model.heads[0].weights
