"""What `select` returns, and what it says when it finds nothing or two things."""

import re

import keras
import pytest

from gradloop import optim
from gradloop.optim import kind, layer_type, layers, name, select
from gradloop.optim.filters.base import as_filter
from tests.keras_names import count_layers_anew

L = keras.layers


class LeNetLike(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv1 = L.Conv2D(6, 5, padding="same", activation="relu")
        self.pool = L.MaxPooling2D()
        self.conv2 = L.Conv2D(16, 5, activation="relu")
        self.norm = L.BatchNormalization()
        self.flatten = L.Flatten()
        self.fc1 = L.Dense(120, activation="relu")
        self.output_layer = L.Dense(10)

    def call(self, x):
        x = self.norm(self.conv2(self.pool(self.conv1(x))))
        return self.output_layer(self.fc1(self.flatten(x)))


@pytest.fixture
def lenet():
    model = LeNetLike()
    model(keras.ops.ones((1, 28, 28, 1)))
    return model


def two_dense():
    """A second model in its process: Keras calls its layers dense_1 and dense_2."""
    count_layers_anew()
    L.Dense(1)
    return keras.Sequential([keras.Input((2,)), L.Dense(3), L.Dense(4)])


def test_conv_gives_four(lenet):
    variables = select(lenet, "conv")
    assert variables == [*(lenet.conv1.kernel, lenet.conv1.bias, lenet.conv2.kernel, lenet.conv2.bias)]


def test_result_is_in_trainable_variables_order(lenet):
    lenet.conv1.trainable = False
    wanted = {id(v) for v in [*lenet.fc1.weights, *lenet.conv2.weights]}
    found = select(lenet, "fc1", "conv")
    assert found == [v for v in lenet.trainable_variables if id(v) in wanted]


def test_no_filters(lenet):
    with pytest.raises(optim.SelectionError, match="`filters` is empty: give at least one"):
        select(lenet)
    assert issubclass(optim.SelectionError, ValueError)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("cnov", r"name\('cnov'\) matches none of the 12 variables .* Did you mean 'conv"),
        ("Conv", r"Only the case differs from: conv1, conv2"),
        ("Conv?", r"Only the case differs from: conv1, conv2"),
        ("cnov*", r"Did you mean 'conv"),
        ("conv1/kernl", r"Did you mean 'conv1/kernel"),
        (re.compile("^convolution1"), r"name\(re.compile\('\^convolution1'\)\) matches none"),
        ("elephant", r"`print\(optim.summary\(model\)\)` lists their names"),
        (L.LSTM, r"layer_type\(LSTM\).* own variables: BatchNormalization, Conv2D, Dense"),
        (lambda info: False, r"<lambda> matches none of the 12 variables"),
        (name("conv") & L.Dense, r"sides match 4 and 4 variables, none in common"),
        (~layer_type(L.Layer), r"Every variable matches layer_type\(Layer\)"),
        (~name("cnov"), r"name\('cnov'\) matches none"),
        (name("conv") | "cnov", r"^name\('cnov'\) matches none"),
        (kind("bias") & L.LSTM, r"^layer_type\(LSTM\) matches none"),
        (layer_type(L.LSTM) | L.GRU, r"^\(layer_type\(LSTM\) \| layer_type\(GRU\)\) matches none .*: Batch"),
    ],
)
def test_nothing_matched(lenet, spec, match):
    with pytest.raises(optim.SelectionError, match=match):
        select(lenet, spec)


TYPOS = [
    "cnov",
    "Conv?",
    re.compile("cnov"),
    kind("kernal"),
    layers("cnov"),
    ~name("cnov"),
    "fc1" | name("x"),
]


@pytest.mark.parametrize("typo", TYPOS, ids=range(len(TYPOS)))
def test_a_typo_does_not_hide_behind_another_filter(lenet, typo):
    with pytest.raises(optim.SelectionError, match="matches none|no variable|has no layer"):
        select(lenet, "fc1", typo)


EMPTY = [
    L.LSTM,
    lambda info: False,
    kind("bias") & L.LSTM,
    "conv" & layer_type(L.Dense),
    ~layer_type(L.Layer),
]


@pytest.mark.parametrize("empty", EMPTY, ids=range(len(EMPTY)))
def test_a_union_is_empty_only_as_a_whole(lenet, empty):
    fc1 = lenet.fc1.weights
    assert (
        select(lenet, "fc1", empty)
        == select(lenet, empty, "fc1")
        == select(lenet, name("fc1") | empty)
        == fc1
    )
    assert select(lenet, ("fc1" | as_filter(empty)) & kind("kernel")) == [lenet.fc1.kernel]
    assert optim.partition(lenet, {"fc1": name("fc1") | empty}, rest="freeze").trained == fc1
    with pytest.raises(optim.SelectionError, match="matches none of the 12 variables"):
        select(lenet, empty, empty)


def test_layers_without_variables_among_others(lenet):
    end = [lenet.norm, lenet.flatten, lenet.fc1]
    chosen = select(lenet, kind("gamma", "beta") | "fc1")
    assert select(lenet, layers(*end)) == select(lenet, *end) == chosen
    assert select(lenet, layers(lenet.flatten) | lenet.fc1) == lenet.fc1.weights
    lenet.norm.trainable = False
    assert select(lenet, layers(*end)) == select(lenet, *end) == lenet.fc1.weights
    for spec in (layers(lenet.pool, lenet.flatten), lenet.flatten):
        with pytest.raises(optim.SelectionError, match=r"No variables: .*layer 'flatten' \(Flatten\)"):
            select(lenet, spec)
    with pytest.raises(optim.SelectionError, match="layer 'flatten' .* has no variables"):
        select(lenet, layers("fc1", "flatten"))


def test_only_frozen_as_a_whole(lenet):
    lenet.norm.trainable = lenet.conv1.trainable = False
    with pytest.raises(
        optim.SelectionError, match="matches only frozen variables .* on 'norm', 'conv1' freeze"
    ):
        select(lenet, L.BatchNormalization, lenet.conv1, L.LSTM)


def test_excluding_a_class_that_is_not_there_is_no_error(lenet):
    spec = layer_type(L.Conv2D) & ~layer_type(L.DepthwiseConv2D)
    assert select(lenet, spec) == select(lenet, "conv")


def test_only_frozen(lenet):
    lenet.conv1.trainable = False
    match = (
        "matches only frozen variables .*conv1/kernel, conv1/bias: `trainable = False` on 'conv1' "
        r"freezes them; set it to True \(`layer.trainable = True`\)"
    )
    with pytest.raises(optim.SelectionError, match=match):
        select(lenet, "fc1", "conv1")


def test_only_frozen_by_the_whole_model(lenet):
    lenet.trainable = False
    with pytest.raises(optim.SelectionError, match="`trainable = False` on the model itself"):
        select(lenet, "conv")


def test_only_frozen_by_a_layer_around():
    inner = keras.Sequential([keras.Input((2,)), L.Dense(2, name="fc")], name="inner")
    model = keras.Sequential([keras.Input((2,)), inner, L.Dense(2, name="head")])
    inner.trainable = False
    with pytest.raises(optim.SelectionError, match="`trainable = False` on 'inner' freezes"):
        select(model, "fc")


def test_moving_statistics_never_train(lenet):
    with pytest.raises(optim.SelectionError, match="norm/moving_mean: they never train by design"):
        select(lenet, kind("moving_mean"))


def test_model_without_variables():
    with pytest.raises(optim.SelectionError, match="has no variables to select from"):
        select(keras.Sequential([keras.Input((2, 2)), L.Flatten()]), "conv")


def test_unbuilt_model():
    with pytest.raises(optim.NotBuiltError, match="call it once on a batch"):
        select(LeNetLike(), "conv")


def test_not_a_model():
    with pytest.raises(TypeError, match="`model` must be a keras.Model"):
        select("conv", "conv")


def test_name_that_means_two_things():
    model = two_dense()
    assert [layer.name for layer in model.layers] == ["dense_1", "dense_2"]
    assert list(optim.named_variables(model))[::2] == ["dense/kernel", "dense_1/kernel"]
    match = (
        r"name\('dense_1'\) means two things .*: dense_1/kernel \(Keras: dense_2/kernel\).*"
        r": dense/kernel \(Keras: dense_1/kernel\).* Pass the layer itself"
    )
    with pytest.raises(optim.SelectionError, match=match):
        select(model, "dense_1")
    for spec in (layers("dense_1"), optim.from_layer("dense_1")):
        match = r"'dense_1' means two things .*'dense_1' \(Keras: 'dense_2'\).*Pass the layer"
        with pytest.raises(optim.SelectionError, match=match):
            select(model, spec)
    for spec in (re.compile("dense_1"), "dense_[1]", ~name("dense_1"), name("dense_1") | "bias"):
        with pytest.raises(optim.SelectionError, match="means two things"):
            select(model, spec)


def test_name_that_only_keras_or_only_we_use():
    model = two_dense()
    first, second = model.layers
    assert select(model, "dense_2") == select(model, layers("dense_2")) == second.weights
    assert select(model, "dense/") == select(model, layers("dense")) == first.weights
    assert select(model, "dense_[2]/kernel") == [second.kernel]
    assert select(model, "dense") == model.weights
    assert select(model, kind("bias")) == [first.bias, second.bias]
    assert select(model, layers(first)) == select(model, first) == first.weights
    assert select(model, optim.from_layer(second)) == second.weights


def test_names_of_the_users_own_are_never_renumbered():
    model = keras.Sequential([keras.Input((2,)), L.Dense(3, name="a_1"), L.Dense(4, name="a_2")])
    assert select(model, "a_1") == model.layers[0].weights
    assert select(model, layers("a_2")) == model.layers[1].weights
