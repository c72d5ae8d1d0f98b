"""Keras' private parts that `loops` reads are still where it reads them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.support.keras_private import (
    built_variables,
    compile_config,
    excludes_variables,
    has_late_variables,
    is_inference,
    is_symbolic,
    keras_mask,
    knows_variable,
    layer_metrics,
    loss_arguments,
    random_seed,
    take_initial_epoch,
    transform_seeds,
    weight_copies,
    with_keras_mask,
    wrapped_function,
)

pytestmark = pytest.mark.versions


def test_random_seed():
    keras.utils.set_random_seed(1234)
    assert random_seed() == 1234


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lion", "ftrl", "nadam"])
def test_knows_variable(name):
    known, unknown = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = keras.optimizers.get(name)
    optimizer.build([known])
    assert knows_variable(optimizer, known)
    assert not knows_variable(optimizer, unknown)


@pytest.mark.parametrize("name", ["sgd", "adam", "ftrl"])
def test_built_variables(name):
    variables = [keras.Variable([1.0]), keras.Variable([2.0])]
    optimizer = keras.optimizers.get(name)
    optimizer.build(variables)
    assert [id(v) for v in built_variables(optimizer)] == [id(v) for v in variables]


def test_backup_and_restore_leaves_its_epoch_where_it_is_read(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert take_initial_epoch(model) == 0

    def fail(epoch, logs):
        if epoch == 2:
            raise OSError

    x = np.ones((4, 1))
    failing = keras.callbacks.LambdaCallback(on_epoch_begin=fail)
    callbacks = [keras.callbacks.BackupAndRestore(tmp_path), failing]
    with pytest.raises(OSError):
        model.fit(x, x, epochs=3, verbose=0, callbacks=callbacks)
    again = keras.callbacks.BackupAndRestore(tmp_path)
    again.set_model(model)
    again.on_train_begin()
    assert take_initial_epoch(model) == 2
    assert take_initial_epoch(model) == 0


def test_seeds_are_changed_for_a_while():
    layer, generator = keras.layers.Dropout(0.5, seed=1), keras.random.SeedGenerator(1)
    seen = []

    def change(seed):
        seen.append(seed.numpy().tolist())
        return seed + 1

    with transform_seeds(change):
        changed = keras.random.uniform([2], seed=generator)
        layer(tf.ones([2]), training=True)
    assert seen == [[1, 0], [1, 0]] and generator.next().numpy().tolist() == [1, 1]
    assert not np.array_equal(changed, keras.random.uniform([2], seed=keras.random.SeedGenerator(1)))


def test_masks_are_where_keras_keeps_them():
    mask = tf.constant([[True, False]])
    masked = keras.layers.Masking()(tf.constant([[[1.0], [0.0]]]))
    np.testing.assert_array_equal(keras_mask(masked), mask)
    metric = keras.metrics.MeanAbsoluteError()
    metric.update_state(tf.ones((1, 2, 1)), with_keras_mask(tf.constant([[[0.0], [5.0]]]), mask))
    assert float(metric.result()) == 1.0
    assert keras_mask(with_keras_mask(tf.constant(1.0), None)) is None


def test_the_arguments_of_a_loss():
    assert loss_arguments(keras.losses.Huber(2.0)) == {"delta": 2.0}
    assert "delta" not in keras.losses.Huber(2.0).get_config()  # or this is not needed any more


def test_the_function_of_a_metric():
    metric = keras.metrics.BinaryAccuracy(threshold=0.7)
    function = wrapped_function(metric)
    assert function.__module__.startswith("keras.")
    assert float(tf.reduce_sum(function(tf.constant([[1.0]]), tf.constant([[0.6]])))) == 0.0


@pytest.mark.parametrize(
    "metric, late",
    [
        (keras.metrics.F1Score, True),
        (keras.metrics.R2Score, True),
        (lambda: keras.metrics.AUC(multi_label=True), True),
        (keras.metrics.AUC, False),
        (keras.metrics.Mean, False),
    ],
)
def test_metrics_that_make_variables_later(metric, late):
    assert has_late_variables(metric()) is late


def test_they_have_made_them_at_the_first_update():
    metric = keras.metrics.F1Score()
    metric.update_state(np.ones((2, 3)), np.ones((2, 3)))
    assert not has_late_variables(metric)


def test_layers_tell_which_metrics_they_hold():
    layer = keras.layers.Dense(2)
    layer.own = keras.metrics.Mean()
    layer.many = {"a": [keras.metrics.Sum()]}
    inner = keras.Sequential([keras.Input((3,)), layer])
    model = keras.Sequential([keras.Input((3,)), inner])
    for compiled in (inner, model):
        compiled.compile("sgd", "mse", metrics=["mae"])
        compiled.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    assert layer_metrics(model) == [layer.own, layer.many["a"][0]]


def test_excluded_variables():
    optimizer, weight = keras.optimizers.AdamW(), keras.Variable([1.0])
    assert not excludes_variables(optimizer)
    optimizer.build([weight])
    optimizer.apply([keras.ops.ones(1)])
    assert not excludes_variables(optimizer)
    for given in ({"var_names": ["bias"]}, {"var_list": [weight]}):
        optimizer.exclude_from_weight_decay(**given)
        assert excludes_variables(optimizer)
    optimizer.exclude_from_weight_decay()
    assert not excludes_variables(optimizer)


@pytest.mark.parametrize("name", ["ScheduleFreeAdamW", "Lion"])
def test_weight_copies(name):
    if not hasattr(keras.optimizers, name):
        pytest.skip("not in this Keras")
    weight, optimizer = keras.Variable([0.0]), getattr(keras.optimizers, name)()
    assert weight_copies(optimizer) == []  # not built
    optimizer.build([weight])
    (copies,) = weight_copies(optimizer)
    weight.assign([5.0])
    copies.renew()
    assert [float(v[0]) for v in optimizer.variables if v.shape == (1,) and float(v[0])] == (
        [5.0] if name == "ScheduleFreeAdamW" else []
    )


def test_each_compile_is_told_from_the_one_before():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    seen = [compile_config(model)]
    for _ in range(2):
        model.compile("sgd")
        seen += [compile_config(model)] * 2
    assert seen[0] is None and seen[1] is seen[2] is not None and seen[3] is not seen[1]


class Asking(keras.layers.Layer):
    """What is known while it is called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x, training=None):
        self.seen.append((is_symbolic(), is_inference()))
        return x


def test_a_call_for_shapes_and_one_that_does_not_train():
    outside = (is_symbolic(), is_inference())
    asking = Asking()
    model = keras.Sequential([keras.Input((1,)), asking])
    assert {symbolic for symbolic, _ in asking.seen} == {True}
    asking.seen.clear()
    x = np.ones((1, 1))
    for options in ({}, {"training": False}, {"training": True}):
        model(x, **options)
    model.predict(x, verbose=0)
    assert asking.seen == [(False, True), (False, True), (False, False), (False, True)]
    assert outside == (is_symbolic(), is_inference()) == (False, False)
