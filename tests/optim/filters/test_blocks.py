"""Blocks: where a model may be cut, by hand for each kind of graph."""

import keras
import numpy as np
import pytest

from gradloop.optim.filters.blocks import blocks
from gradloop.optim.naming.stable_names import tree_of

L = keras.layers


def found(model):
    return [" ".join(node.path for node in run) for run in blocks(tree_of(model))]


def dense(name, units=4):
    return L.Dense(units, name=name)


def residual(x, name):
    return L.Add()([x, dense(f"{name}_2")(dense(f"{name}_1")(x))])


def attention(x, name):
    """Written out, as a residual unit."""
    normed = L.LayerNormalization(name=f"{name}_norm")(x)
    query, key, value = (dense(f"{name}_{part}")(normed) for part in ("q", "k", "v"))
    scores = keras.ops.softmax(keras.ops.matmul(query, keras.ops.transpose(key, (0, 2, 1))))
    return x + dense(f"{name}_out")(keras.ops.matmul(scores, value))


def functional(call, shape=(4,), name="net"):
    x = keras.Input(shape)
    return keras.Model(x, call(x), name=name)


def units():
    return functional(lambda x: dense("head")(residual(residual(dense("stem")(x), "a"), "b")))


def transformer():
    return functional(lambda x: dense("head")(attention(attention(dense("stem")(x), "a"), "b")), (3, 4))


def from_the_input():
    """Blocks that read the model's input itself."""
    return functional(lambda x: dense("head")(attention(residual(x, "a"), "b")), (3, 4))


def qk_norm():
    def call(x):
        query, key = (L.LayerNormalization(name=f"{n}_norm")(dense(n)(x)) for n in "qk")
        scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 2, 1)))
        return dense("head")(x + keras.ops.matmul(scores, dense("v")(x)))

    return functional(call, (3, 4))


def branches():
    def call(x):
        x = dense("stem")(x)
        arms = [dense("a")(x), dense("b2")(dense("b1")(x)), x]
        return dense("head")(L.Concatenate()(arms))

    return functional(call)


def with_a_mask():
    """A mask that each attention reads, made from an input without weights."""
    x, lengths = keras.Input((3, 4)), keras.Input((3,))
    mask = keras.ops.expand_dims(lengths > 0, 1)
    h = dense("stem")(x)
    for name in ("a", "b"):
        normed = L.LayerNormalization(name=f"{name}_norm")(h)
        h = h + L.MultiHeadAttention(1, 4, name=name)(normed, normed, attention_mask=mask)
    return keras.Model([x, lengths], dense("head")(h))


def with_a_condition():
    """What each unit reads beside the stream, made by weights: units are blocks all the same."""
    x, when = keras.Input((4,)), keras.Input((1,))
    condition, h = dense("condition")(when), dense("stem")(x)
    for name in ("a", "b", "c"):
        h = h + dense(f"{name}_2")(dense(f"{name}_1")(h) + condition)
    return keras.Model([x, when], dense("head")(h))


def low_rank_attention():
    def call(x):
        query, key, value = (dense(f"{n}_up")(dense(f"{n}_down")(x)) for n in "qkv")
        scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 2, 1)))
        return dense("head")(x + keras.ops.matmul(scores, value))

    return functional(call, (3, 4))


def several_ends():
    """A table joins images late, and two heads do not meet again."""
    image, table = keras.Input((4,)), keras.Input((2,))
    h = L.Concatenate()([dense("conv2")(dense("conv1")(image)), dense("table")(table)])
    h = dense("join")(h)
    return keras.Model([image, table], [dense("one")(h), dense("two")(h)])


def nested():
    """A network within a network is opened; one that is an arm of a sum is not."""
    x = keras.Input((4,))
    arm = keras.Sequential([keras.Input((4,)), dense("a"), dense("b")], name="arm")
    h = units()(x)
    return keras.Model(x, dense("top")(h + arm(h)))


class Unit(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = L.Dense(4), L.Dense(4)

    def call(self, x):
        return x + self.second(self.first(x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.stem = L.Dense(4)
        self.steps = [Unit(), keras.Sequential([L.Dense(4), L.Dense(4)])]
        self.attention = L.MultiHeadAttention(1, 4)
        self.neck = units()
        self.head = L.Dense(2)

    def call(self, x):
        x = self.stem(x)
        for step in self.steps:
            x = x + step(x)
        return self.head(self.neck(self.attention(x, x)[:, 0]))


SUBCLASSED = [
    *("stem", "steps/0", "steps/1", "attention"),
    *("neck/stem", "neck/a_1 neck/a_2", "neck/b_1 neck/b_2", "neck/head", "head"),
]


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 3, 4), "float32"))
    return model


def behind_a_head():
    return keras.Sequential([keras.Input((3, 4)), subclassed(), dense("head")])


def shared():
    twin = dense("twin")
    return functional(lambda x: dense("head")(twin(dense("middle")(twin(x)))))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (units, ["stem", "a_1 a_2", "b_1 b_2", "head"]),
        (transformer, ["stem", "a_norm a_k a_q a_v a_out", "b_norm b_k b_q b_v b_out", "head"]),
        (from_the_input, ["a_1 a_2", "b_norm b_k b_q b_v b_out", "head"]),
        (qk_norm, ["q q_norm k k_norm v", "head"]),
        (branches, ["stem", "a b1 b2", "head"]),
        (with_a_mask, ["stem", "a a_norm", "b b_norm", "head"]),
        (with_a_condition, ["stem", "condition", "a_1 a_2", "b_1 b_2", "c_1 c_2", "head"]),
        (low_rank_attention, ["q_down q_up k_down k_up v_down v_up", "head"]),
        (several_ends, ["conv1", "conv2", "table", "join", "two", "one"]),
        (nested, ["net/stem", "net/a_1 net/a_2", "net/b_1 net/b_2", "net/head", "arm", "top"]),
        (subclassed, SUBCLASSED),
        (
            behind_a_head,
            [" ".join(f"subclassed/{one}" for one in run.split()) for run in SUBCLASSED] + ["head"],
        ),
        (shared, ["twin", "middle", "head"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_blocks(make, expected):
    assert [sorted(run.split()) for run in found(make())] == [sorted(run.split()) for run in expected]


@pytest.mark.release
@pytest.mark.parametrize(("name", "count"), [("MobileNetV2", 55), ("ResNet50", 19)])
def test_networks(name, count):
    network = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=2)
    runs = blocks(tree_of(network))
    assert len(runs) == count
    # Each sum is a unit of its own.
    assert sum(len(run) > 1 for run in runs) == sum(isinstance(layer, L.Add) for layer in network.layers)
