"""Fails when Keras moves something that `keras_private` leans on."""

import contextlib

import keras
import pytest

from gradloop.optim.private import keras_private
from tests.keras_names import count_layers_anew

pytestmark = pytest.mark.versions


class HTTPBlock2(keras.layers.Layer):
    pass


@pytest.fixture
def first_names():
    """Automatic names as of a process that has built nothing yet."""
    count_layers_anew()
    yield
    count_layers_anew()


LAYERS = [
    lambda: keras.layers.Conv2D(1, 1),
    lambda: keras.layers.DepthwiseConv2D(1),
    lambda: keras.layers.Conv2DTranspose(1, 1),
    lambda: keras.layers.ReLU(),
    lambda: keras.layers.PReLU(),
    lambda: keras.layers.LSTM(1),
    lambda: keras.layers.GRUCell(1),
    lambda: keras.layers.BatchNormalization(),
    lambda: keras.layers.GlobalAveragePooling2D(),
    lambda: keras.layers.Bidirectional(keras.layers.GRU(1)),
    lambda: keras.Sequential(),
    lambda: HTTPBlock2(),
    lambda: keras.Model(x := keras.Input((1,)), keras.layers.ReLU()(x)),
    lambda: keras.layers.InputLayer((1,)),
]


@pytest.mark.parametrize("make", LAYERS)
def test_automatic_name_is_the_one_keras_gives(make, first_names):
    first, second = make(), make()
    assert keras_private.automatic_name(type(first)) == first.name
    assert second.name == f"{first.name}_1"
    assert keras_private.has_automatic_name(first)
    assert keras_private.has_automatic_name(second)


@pytest.mark.parametrize("name", ["dense_01", "dense_0", "dense_", "my_dense", "dense_1a", "head"])
def test_other_names_are_the_users(name):
    assert not keras_private.has_automatic_name(keras.layers.Dense(1, name=name))


def test_graph_nodes_are_in_an_order_that_can_be_computed():
    x = keras.Input((2,))
    left, right = keras.layers.Dense(2, name="left")(x), keras.ops.relu(x)
    model = keras.Model(x, keras.layers.Add(name="sum")([left, right]))
    nodes = keras_private.graph_nodes(model)
    assert {node.operation.name for node in nodes} >= {"left", "sum"} and len(nodes) == 4
    known = set()
    for node in nodes:
        assert {id(tensor) for tensor in node.input_tensors} <= known
        known.update(id(tensor) for tensor in node.output_tensors)
    assert [id(tensor) for tensor in nodes[-1].output_tensors] == [id(model.output)]


def test_the_model_that_builds_an_optimizer_is_found():
    found = []

    class Recorder(keras.optimizers.SGD):
        def build(self, variables):
            found.append(next(keras_private.calling_models(variables), None))
            super().build(variables)

    def make():
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    models = [make(), make()]
    for model in models:
        compiled = {"optimizer": Recorder(), "loss": keras.losses.MeanSquaredError()}
        with keras.saving.custom_object_scope({"Recorder": Recorder}):
            model.compile_from_config(keras.saving.serialize_keras_object(compiled))
    assert found == models
    variables = make().trainable_variables
    nobody = list(keras_private.calling_models(variables))
    assert nobody == []


def test_automatic_variable_name(first_names):
    names = [keras.Variable(0.0).name for _ in range(2)]
    assert names == ["variable", "variable_1"]
    assert all(keras_private.has_automatic_variable_name(keras.Variable(0.0, name=name)) for name in names)
    assert not keras_private.has_automatic_variable_name(keras.Variable(0.0, name="variables"))


def test_graph_models_are_told_from_subclassed_ones():
    class Subclassed(keras.Model):
        pass

    class SubclassOfFunctional(keras.Model):
        def __init__(self):
            x = keras.Input((1,))
            super().__init__(inputs=x, outputs=keras.layers.ReLU()(x))

    x = keras.Input((1,))
    assert keras_private.is_graph_model(keras.Model(x, keras.layers.ReLU()(x)))
    assert keras_private.is_graph_model(keras.Sequential())
    assert keras_private.is_graph_model(SubclassOfFunctional())
    assert not keras_private.is_graph_model(Subclassed())
    assert not keras_private.is_graph_model(keras.layers.Dense(1))


def test_keras_still_tracks_layers_where_we_look():
    class Overwritten(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.only = keras.layers.Dense(1)
            self.first = self.only
            self.only = keras.layers.Dense(2)

    layer = Overwritten()
    assert keras_private.tracked_layers(layer) == [layer.first, layer.only]
    assert keras_private.tracked_layers(object()) == []


def test_book_keeping_covers_what_keras_fills():
    """After fit, save for what users assigned, no unknown attribute holds layers or variables."""

    def holds(value):
        if isinstance(value, (keras.layers.Layer, keras.Variable)):
            return True
        if isinstance(value, dict):
            return any(map(holds, value.values()))
        return isinstance(value, (list, tuple, set)) and any(map(holds, value))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.users_own = [keras.layers.Dense(1)]

        def call(self, x):
            return self.users_own[0](x)

    x = keras.Input((2,))
    functional = keras.Model(x, keras.layers.Dense(1)(keras.layers.BatchNormalization()(x)))
    sequential = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for model in (Model(), functional, sequential):
        model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
        data = keras.ops.ones((2, 2)), keras.ops.ones((2, 1))
        model.train_on_batch(*data)
        held = {attribute for attribute, value in vars(model).items() if holds(value)}
        assert {a for a in held if not keras_private.is_book_keeping(a)} <= {"users_own"}


def test_keras_does_not_record_an_explicit_name():
    """Were it to, explicit names that look automatic could be kept as they are."""
    layer = keras.layers.Dense(1, name="dense_7")
    kept = getattr(layer, "_auto_config", None)
    assert kept is None or "name" not in kept.config


K = keras.optimizers


def test_raw_learning_rate_is_a_float_where_it_is_a_number():
    optimizer = K.SGD(0.5)
    assert keras_private.raw_learning_rate(optimizer) == 0.5
    optimizer.learning_rate = 0.25
    found = keras_private.raw_learning_rate(optimizer)
    assert (type(found), found) == (float, 0.25)


def test_raw_learning_rate_keeps_schedules_and_functions():
    schedule = K.schedules.CosineDecay(0.5, 10)
    assert keras_private.raw_learning_rate(K.SGD(schedule)) is schedule
    assert keras_private.raw_learning_rate(K.SGD(fixed := lambda: 0.5)) is fixed
    optimizer = K.SGD(0.5)
    optimizer.learning_rate = schedule
    assert keras_private.raw_learning_rate(optimizer) is schedule


def test_uses_weight_decay():
    kernel, bias, scale = (keras.Variable([1.0], name=name) for name in ("kernel", "bias", "gamma"))
    optimizer = K.AdamW()
    assert all(keras_private.uses_weight_decay(optimizer, v) for v in (kernel, bias, scale))
    optimizer.exclude_from_weight_decay(var_list=[scale], var_names=["bias"])
    found = [keras_private.uses_weight_decay(optimizer, v) for v in (kernel, bias, scale)]
    assert found == [True, False, False]


OLD_MUON = pytest.mark.skipif("adam_weight_decay" not in K.Muon().get_config(), reason="fails by itself")


@pytest.mark.parametrize("make", [lambda: K.AdamW(0.1), pytest.param(lambda: K.Muon(0.1), marks=OLD_MUON)])
@pytest.mark.parametrize("names", [["norm"], ["gamma"], ["norm/gamma"], []])
def test_weight_decay_is_asked_for_as_keras_asks(make, names):
    """Keras keeps each answer, so one to another question would change what it does."""

    def optimizer():
        made = make()
        made.exclude_from_weight_decay(var_names=names)
        return made

    with keras.name_scope("norm"):
        asked, applied = (keras.Variable([1.0], name="gamma") for _ in range(2))
    ours, keras_alone = optimizer(), optimizer()
    found = [keras_private.uses_weight_decay(ours, asked) for _ in range(2)]
    for one, variable in ((ours, asked), (keras_alone, applied)):
        one.build([variable])
        one.apply([keras.ops.zeros(1)], [variable])
    assert found == [bool(applied.numpy()[0] < 1)] * 2
    assert asked.numpy() == applied.numpy()


def test_takes_sums_within_an_optimizer_that_holds_others():
    class Wrapping(keras.optimizers.SGD):
        def __init__(self, inner):
            super().__init__(0.1)
            self.several = {"a": [inner]}

    inner = K.SGD(0.1)
    outer = Wrapping(inner)
    with keras_private.takes_sums(outer):
        assert inner._all_reduce_sum_gradients([1]) == outer._all_reduce_sum_gradients([1]) == [1]
    assert "_all_reduce_sum_gradients" not in {**vars(inner), **vars(outer)}


def test_takes_sums(monkeypatch):
    """Keras sums by the method that is replaced, and by it alone."""
    weight, gradient = keras.Variable(1.0), keras.ops.convert_to_tensor(2.0)
    optimizer = keras.optimizers.Nadam(0.1)
    seen = []
    real = type(optimizer)._all_reduce_sum_gradients

    def counting(self, pairs):
        seen.append(len(pairs))
        return real(self, pairs)

    monkeypatch.setattr(type(optimizer), "_all_reduce_sum_gradients", counting)
    optimizer.apply([gradient], [weight])
    assert seen == [1]
    with keras_private.takes_sums(optimizer), keras_private.takes_sums(optimizer):
        optimizer.apply([gradient], [weight])
    assert seen == [1] and int(optimizer.iterations) == 2
    optimizer.apply([gradient], [weight])
    assert seen == [1, 1]


def test_clips_by():
    """Keras clips by the method that is replaced, once."""
    weight, seen = keras.Variable(1.0), []
    optimizer = keras.optimizers.SGD(0.5, global_clipnorm=1.0)

    def clip(optimizer, gradients):
        seen.append(optimizer)
        return [2 * gradient for gradient in gradients]

    with keras_private.clips_by(optimizer, clip):
        optimizer.apply([keras.ops.ones(())], [weight])
    assert seen == [optimizer] and float(weight) == 0.0
    optimizer.apply([keras.ops.ones(())], [weight])
    assert len(seen) == 1 and float(weight) == -0.5


@pytest.mark.parametrize("context, found", [(keras_private.tracked, 5), (contextlib.nullcontext, 4)])
def test_tracked_finds_what_an_optimizer_keeps_beside_its_slots(context, found):
    class Inner(keras.optimizers.Nadam):
        def build(self, variables):
            with context():
                super().build(variables)

    inner = Inner()
    keras.optimizers.LossScaleOptimizer(inner).build([keras.Variable([1.0])])
    assert len(inner.variables) == found  # iterations, rate, momentum, velocity; the product of its schedule


def test_takes_rate():
    schedule = K.schedules.ExponentialDecay(0.5, 1, 0.5)
    for optimizer, rate in ((K.SGD(0.5), 0.5), (K.SGD(schedule), 0.5), (K.SGD(lambda: 0.25), 0.25)):
        with keras_private.takes_rate(optimizer, lambda rate: rate / 2):
            assert float(optimizer.learning_rate) == rate / 2
        assert float(optimizer.learning_rate) == rate
