"""What could go wrong silently at the edges of `GroupedOptimizer`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.optim import Group, GroupedOptimizer, partition
from gradloop.optim.gradients.sparse import where

pytestmark = pytest.mark.numbers

K = keras.optimizers
L = keras.layers


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), L.Dense(3, name="body"), L.Dense(2, name="head")])


def quantize(model):
    for layer in model.layers:
        layer.quantize("float8")


def grouped(model, base, **body):
    return GroupedOptimizer(base, partition(model, {"body": Group("body", **body), "head": "head"}))


def ones(model, body=1.0):
    values = [body, body, 1.0, 1.0]
    return [tf.fill(v.shape, value) for v, value in zip(model.trainable_variables, values)]


STOCK = [
    K.SGD(0.1),
    K.SGD(0.1, momentum=0.9),
    K.Adam(0.1),
    K.Adam(0.1, epsilon=0.0),
    K.RMSprop(0.1),
    K.Lion(0.1),
]


@pytest.mark.parametrize("optimizer", STOCK, ids=lambda o: o.name)
@pytest.mark.parametrize("limit", [None, 1.0])
def test_nan_gradients_of_a_frozen_group_do_no_harm_in_a_graph(optimizer, limit):
    model = network()
    optimizer = type(optimizer).from_config(optimizer.get_config() | {"global_clipnorm": limit})
    one = grouped(model, optimizer, frozen=True)
    before = [v.numpy() for v in model.trainable_variables]
    gradients = ones(model, body=np.nan)
    tf.function(lambda: one.apply(gradients, model.trainable_variables))()
    after = [v.numpy() for v in model.trainable_variables]
    for old, new in zip(before[:2], after[:2]):
        np.testing.assert_array_equal(new, old)
    for old, new in zip(before[2:], after[2:]):
        assert np.all(np.isfinite(new)) and not np.array_equal(new, old)
    one.unfreeze("body")
    one.apply(ones(model), model.trainable_variables)
    assert all(np.all(np.isfinite(v.numpy())) for v in model.trainable_variables)


@pytest.mark.parametrize("graph", [False, True])
def test_update_neither_counts_nor_checks_what_is_frozen(graph):
    model = network()
    update = loops.Update(grouped(model, K.SGD(1.0), frozen=True), model.trainable_variables, clip_norm=1.0)
    before = [v.numpy() for v in model.trainable_variables[2:]]
    gradients = ones(model, body=np.nan)
    (tf.function(update) if graph else update)(gradients)
    moved = [old - v.numpy() for old, v in zip(before, model.trainable_variables[2:])]
    np.testing.assert_allclose(np.sqrt(sum(np.sum(m**2) for m in moved)), 1.0, rtol=1e-6)


def test_step_names_variables_that_are_not_in_the_plan():
    model = network()
    model.get_layer("body").trainable = False
    optimizer = GroupedOptimizer(K.SGD(0.1), partition(model, {"head": "head"}))
    model.get_layer("body").trainable = True
    step = loops.TrainStep(model, "mse", optimizer)
    with pytest.raises(ValueError, match="built without 'body/kernel'"):
        step(np.ones((2, 4), "float32"), np.ones((2, 2), "float32"))


def test_float8_scales_are_overwritten_as_keras_does():
    ends = []
    for ours in (False, True):
        model = network()
        quantize(model)
        optimizer = K.SGD(0.1)
        if ours:
            optimizer = GroupedOptimizer(optimizer, partition(model, {"all": "*"}))
        model.compile(optimizer, "mse")
        x, y = np.linspace(0, 1, 32, dtype="float32").reshape(8, 4), np.ones((8, 2), "float32")
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        ends.append([v.numpy() for v in model.weights])
    for theirs, mine in zip(*ends):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


def test_float8_scales_have_neither_state_nor_averages():
    model = network()
    quantize(model)
    optimizer = GroupedOptimizer(K.Adafactor(0.1, use_ema=True), partition(model, {"all": "*"}))
    assert not any("scale" in name or "amax" in name for name in optimizer.grouped_update.state)
    optimizer.apply([tf.ones(v.shape) for v in model.trainable_variables])
    scales = [v for v in model.trainable_variables if v.overwrite_with_gradient]
    optimizer.finalize_variable_values(model.trainable_variables)
    averages = list(optimizer._model_variables_moving_average)
    assert len(averages) == len(model.trainable_variables)
    for variable, average in zip(model.trainable_variables, averages):
        np.testing.assert_allclose(average, variable)
    assert len(scales) == 12 and all(np.all(v.numpy() == 1) for v in scales)


class Halved(keras.optimizers.SGD):
    """An optimizer of a user's own, without a `get_config` of its own."""

    def __init__(self, factors, change):
        super().__init__(1.0)
        self.factors, self.change = factors, change

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.change(gradient * self.factors[1]), variable, learning_rate)


def test_own_optimizer_whose_config_lacks_settings_has_them_in_each_group():
    """Nor does its constructor take what Keras' own do."""
    model = network()
    before = [v.numpy() for v in model.trainable_variables]
    optimizer = grouped(model, Halved([0.25, 0.5], lambda gradient: 2 * gradient))
    optimizer.apply(ones(model))
    for old, variable in zip(before, model.trainable_variables):
        np.testing.assert_allclose(variable.numpy(), old - 1 * 0.5 * 2, rtol=1e-6)


class Sparing(keras.optimizers.Optimizer):
    """Keeps Keras' settings out of its config, and makes two slots without names."""

    def __init__(self, learning_rate=0.1, **settings):
        super().__init__(learning_rate, **settings)

    def build(self, variables):
        super().build(variables)
        self.sums = [self.add_variable_from_reference(v) for v in variables]
        self.counts = [self.add_variable_from_reference(v, None, "ones") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        self.assign_add(self.sums[index], gradient)
        self.assign_add(self.counts[index], tf.ones_like(gradient))
        self.assign_sub(variable, learning_rate * gradient)

    def get_config(self):
        return {"learning_rate": float(self.learning_rate.numpy()), "name": self.name}


def test_own_optimizer_keeps_settings_and_unnamed_slots():
    model = network()
    optimizer = grouped(model, Sparing(1.0, weight_decay=0.5))
    before = model.trainable_variables[0].numpy()
    optimizer.apply(ones(model), model.trainable_variables)
    np.testing.assert_allclose(model.trainable_variables[0].numpy(), before * 0.5 - 1, rtol=1e-6)
    state = optimizer.named_state()
    np.testing.assert_array_equal(state["body/bias/var"], [1, 1, 1])
    np.testing.assert_array_equal(state["body/bias/var_1"], [2, 2, 2])


class Positional(keras.optimizers.SGD):
    """Makes state that names no variable."""

    def build(self, variables):
        super().build(variables)
        self.states = [self.add_variable(v.shape, name=f"state_{i}") for i, v in enumerate(variables)]


def test_state_that_belongs_to_no_variable_is_refused():
    with pytest.raises(ValueError, match="makes state that belongs to no variable.*state_0, state_1"):
        grouped(network(), Positional(0.1))


def test_optimizer_from_a_config_is_built_where_keras_builds():
    model = network()
    config = grouped(model, K.Adam(0.01)).get_config()
    x, y = np.ones((2, 4), "float32"), np.ones((2, 2), "float32")
    step = loops.TrainStep(model, "mse", GroupedOptimizer.from_config(config))
    assert np.isfinite(step(x, y)["loss"])
    again = GroupedOptimizer.from_config(config)
    again.apply(ones(model), model.trainable_variables)
    assert list(again.plan.groups) == ["body", "head"]


def test_model_is_saved_with_an_optimizer_that_is_not_bound_yet(tmp_path):
    model = network()
    model.compile(GroupedOptimizer.from_config(grouped(model, K.Adam(0.01)).get_config()), "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert list(loaded.optimizer.plan.groups) == ["body", "head"]


def test_grouped_inside_grouped_is_refused():
    model = network()
    inner = GroupedOptimizer.from_config(grouped(model, K.SGD(0.1)).get_config())
    with pytest.raises(ValueError, match="is a GroupedOptimizer itself"):
        GroupedOptimizer(inner, partition(model, {"all": "*"}))


def test_gradient_of_another_shape_is_named():
    model = network()
    gradients = ones(model)
    gradients[1] = tf.ones(1)
    with pytest.raises(ValueError, match=r"`grads` has shape \(1,\) for 'body/bias', whose shape is \(3,\)"):
        grouped(model, K.Lion(0.1)).apply(gradients, model.trainable_variables)


def test_rate_of_a_groups_own_optimizer():
    model = network()
    own = K.SGD(0.5)
    optimizer = grouped(model, K.Adam(0.01), optimizer=own)
    own.learning_rate = 0.25  # read when the optimizer was made, not at some later moment
    optimizer.freeze("head")
    assert optimizer.learning_rates["body"] == 0.5
    with pytest.raises(ValueError, match="follows the learning rate of its own optimizer: use `rescale`"):
        optimizer.set_learning_rate("body", 0.1)
    optimizer.rescale("body", 0.5)
    assert optimizer.learning_rates["body"] == 0.25


@pytest.mark.parametrize("graph", [False, True])
def test_calls_with_all_frozen_count_alike(graph):
    model = network()
    optimizer = grouped(model, K.SGD(0.1))
    optimizer.freeze("body", "head")

    def call():
        optimizer.apply(ones(model), model.trainable_variables)

    (tf.function(call) if graph else call)()
    assert int(optimizer.iterations.numpy()) == 1


def test_stock_update_leaves_float8_to_keras():
    from gradloop.optim.updates.plain_optimizer import fused_update

    model = network()
    quantize(model)
    optimizer = K.SGD(0.1)
    optimizer.build(model.trainable_variables)
    assert fused_update(optimizer, model.trainable_variables) is None


def test_plan_lists_what_is_frozen():
    plan = grouped(network(), K.SGD(0.1), frozen=True).plan
    assert [v.path.split("/")[-2] for v in plan.frozen] == ["body", "body"]
    assert len(plan.trained) == 2


def test_where_keeps_rows():
    slices = tf.IndexedSlices(tf.constant([[np.nan]]), tf.constant([2]), tf.constant([4, 1]))
    found = where(tf.constant(False), slices)
    np.testing.assert_array_equal(found.values, [[0.0]])
    np.testing.assert_array_equal(found.indices, [2])
