"""Freezing and unfreezing layers while a step is in use: followed, once and cheaply, or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim

pytestmark = pytest.mark.numbers


def by_hand(model, optimizer, loss_function, x, y):
    """One step of a tape, which asks Keras each time what trains and in which mode BatchNorm runs."""
    with tf.GradientTape() as tape:
        loss = loss_function(y, model(x, training=True)) + (tf.add_n(model.losses) if model.losses else 0.0)
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)


@pytest.mark.parametrize("call", ["one", "many"])
def test_layers_frozen_and_unfrozen_between_steps(logits, assert_same_weights, call):
    ours, theirs = logits.norm_model(), logits.norm_model()
    optimizers = [keras.optimizers.Adam(0.01) for _ in range(2)]
    optimizers[1].build(theirs.trainable_variables)
    step = loops.TrainStep(ours, logits.crossentropy(), optimizers[0])
    frozen = [(), (), ("norm",), ("norm", "hidden"), ("hidden",), (), ("norm",)]
    for names, (x, y, _) in zip(frozen, logits.batches(), strict=False):
        for model in (ours, theirs):
            for layer in model.layers:
                layer.trainable = layer.name not in names
        if call == "one":
            step(x, y)
        else:
            step.run(iter(loops.Batches(x, y, 16, shuffle=False)), 1)
        by_hand(theirs, optimizers[1], logits.crossentropy(), x, y)
        assert [v.path.split("/")[-2] for v in step.variables] == [
            v.path.split("/")[-2] for v in theirs.trainable_variables
        ]
    assert_same_weights(ours, theirs, rtol=1e-6)
    assert step.traces == 4, "one for each choice, and none for one that is back"


def test_a_norm_without_weights_that_train_follows_its_layer(logits):
    keras.utils.set_random_seed(0)
    norm = keras.layers.BatchNormalization(center=False, scale=False)
    model = keras.Sequential([keras.Input((6,)), norm, keras.layers.Dense(3)])
    step = loops.TrainStep(model, logits.crossentropy(), "sgd")
    step(logits.x, logits.y)
    moved = norm.moving_mean.numpy()
    assert moved.any()
    norm.trainable = False
    step(logits.x, logits.y)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), moved)
    norm.trainable = True
    step(logits.x, logits.y)
    assert not np.array_equal(norm.moving_mean.numpy(), moved)


@pytest.mark.parametrize("by", ["filters", "variables", "plan"])
def test_a_choice_stays_what_it_was_and_trains_what_is_not_frozen(logits, by):
    model = logits.dense_model()
    hidden, head = model.get_layer("hidden"), model.get_layer("head")
    chosen = {"filters": ["hidden", "head"], "variables": [hidden.kernel, head.kernel, head.bias]}.get(by)
    optimizer = keras.optimizers.SGD(0.1)
    if by == "plan":
        plan = optim.partition(model, {"body": optim.Group("hidden"), "top": optim.Group("head")})
        optimizer = optim.GroupedOptimizer(optimizer, plan)
    step = loops.TrainStep(model, logits.crossentropy(), optimizer, variables=chosen)
    at_first = list(map(id, step.variables))
    hidden.trainable = False
    before = hidden.kernel.numpy()
    step(logits.x, logits.y)
    np.testing.assert_array_equal(hidden.kernel.numpy(), before)
    assert list(map(id, step.variables)) == list(map(id, head.trainable_variables))
    hidden.trainable = True
    assert list(map(id, step.variables)) == at_first
    head.kernel.trainable = False  # a variable by itself
    assert len(step.variables) == len(at_first) - 1


def test_a_filter_finds_what_was_frozen_when_it_was_given(logits):
    model = logits.dense_model()
    model.get_layer("hidden").trainable = False
    optimizer = keras.optimizers.SGD(0.1)
    step = loops.TrainStep(model, logits.crossentropy(), optimizer, variables="*")
    assert len(step.variables) == 2
    model.get_layer("hidden").trainable = True
    assert len(step.variables) == 4


def test_what_cannot_be_followed_is_refused_and_changes_nothing(logits):
    model = logits.dense_model()
    hidden = model.get_layer("hidden")
    hidden.trainable = False
    step = loops.TrainStep(model, logits.crossentropy(), "adam")
    step(logits.x, logits.y)
    hidden.trainable = True
    weights = model.get_weights()
    for _ in range(2):
        with pytest.raises(ValueError, match="`optimizer` was built without 'hidden/kernel'.*before"):
            step(logits.x, logits.y)
    model.trainable = False
    for _ in range(2):
        with pytest.raises(ValueError, match="`trainable = False` by now on all that this step trains: set"):
            step(logits.x, logits.y)
    for value, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, before)
    model.get_layer("head").trainable = True
    model.trainable = True
    hidden.trainable = False
    step(logits.x, logits.y)
    assert step.traces == 1


def test_a_step_of_ones_own_follows_layers_or_refuses(logits):
    model = logits.norm_model()
    norm, head = model.get_layer("norm"), model.get_layer("head")
    update = loops.Update(keras.optimizers.SGD(0.1), head.trainable_variables)
    traced = []

    @loops.replicated
    def step(x, y):
        traced.append(1)
        with tf.GradientTape() as tape:
            loss = loops.mean_loss(keras.losses.mean_squared_error(y, model(x, training=True)))
        update(tape.gradient(loss, update.variables))

    y = np.zeros((64, 3), "float32")
    moved = []
    for trainable in (True, True, False, False, True):
        norm.trainable = trainable
        before = norm.moving_mean.numpy()
        step(logits.x, y)
        moved.append(not np.array_equal(norm.moving_mean.numpy(), before))
    assert moved == [True, True, False, False, True] and len(traced) == 3
    head.trainable = False
    before = head.kernel.numpy()
    with pytest.raises(ValueError, match="`variables` holds '.*head/kernel'.* since the `Update` was made"):
        step(logits.x, y)
    np.testing.assert_array_equal(head.kernel.numpy(), before)


def test_an_update_of_ones_own_refuses_what_was_frozen_since(logits):
    model = logits.dense_model()
    update = loops.Update(keras.optimizers.SGD(0.1), model.trainable_variables)
    gradients = [tf.ones_like(variable) for variable in update.variables]
    model.get_layer("hidden").trainable = False
    before = model.get_weights()
    with pytest.raises(ValueError, match="`variables` holds 'sequential.*/hidden/kernel', .* since .*: make"):
        update(gradients)
    for value, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, was)
    model.get_layer("hidden").trainable = True
    update(gradients)
