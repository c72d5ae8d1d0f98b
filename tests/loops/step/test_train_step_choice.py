"""Which variables a TrainStep trains: the choice, `train_only`, and the backward pass that follows them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.device.trace_cache import TraceCache

pytestmark = pytest.mark.numbers


def test_chosen_variables_alone_move(logits):
    model = logits.dense_model()
    before = {name: v.numpy() for name, v in optim.named_variables(model).items()}
    step = loops.TrainStep(model, logits.crossentropy(), "adam", variables="head")
    for _, (x, y, _) in zip(range(3), logits.batches(), strict=False):
        step(x, y)
    for name, variable in optim.named_variables(model).items():
        assert np.array_equal(variable.numpy(), before[name]) == name.startswith("hidden")


def test_a_subset_trains_like_keras_with_the_rest_frozen(logits, assert_same_weights):
    ours, theirs = logits.norm_model(), logits.norm_model()
    step = loops.TrainStep(ours, logits.crossentropy(), keras.optimizers.Adam(1e-2), variables="head")
    for layer in theirs.layers:
        layer.trainable = layer.name == "head"
    theirs.compile(keras.optimizers.Adam(1e-2), logits.crossentropy())
    for _, (x, y, _) in zip(range(20), logits.batches(), strict=False):
        step(x, y)
        theirs.train_on_batch(x, y)
    assert_same_weights(ours, theirs, rtol=1e-6)


def test_backward_pass_stops_where_the_chosen_variables_end(logits, monkeypatch):
    traced, get = [], TraceCache.get

    def noted(*args, **kwargs):
        traced.append(get(*args, **kwargs))
        return traced[-1]

    monkeypatch.setattr(TraceCache, "get", noted)

    def backward_matmuls(variables):
        model = logits.dense_model()
        step = loops.TrainStep(model, logits.crossentropy(), "sgd", variables=variables)
        step(logits.x[:4], logits.y[:4])
        return sum(op.type == "MatMul" for op in traced[-1].graph.get_operations())

    # Two products forward. Backward the head's kernel; for all, also the signal and the other kernel.
    assert backward_matmuls("head") == 3
    assert backward_matmuls(None) == 5


def test_train_only_keeps_optimizer_state_and_traces_once(logits):
    model = logits.dense_model()
    step = loops.TrainStep(model, logits.crossentropy(), keras.optimizers.Adam(1e-2))
    source = logits.batches()

    def run(count):
        for _ in range(count):
            x, y, _ = next(source)
            step(x, y)

    run(3)
    assert step.traces == 1
    state = {v.path: v.numpy() for v in step.optimizer.variables}
    step.train_only("head")
    hidden = model.get_layer("hidden").kernel.numpy()
    run(2)
    assert step.traces == 2
    for variable in step.optimizer.variables:
        if "hidden" in variable.path:
            np.testing.assert_array_equal(variable.numpy(), state[variable.path])
    np.testing.assert_array_equal(model.get_layer("hidden").kernel.numpy(), hidden)
    step.train_only("*")
    run(2)
    step.train_only("head")
    run(1)
    assert step.traces == 2, "a choice seen before must not trace again"
    assert not np.array_equal(model.get_layer("hidden").kernel.numpy(), hidden)


def test_train_only_equals_keras_toggling_with_one_optimizer(logits, assert_same_weights):
    ours, theirs = logits.dense_model(), logits.dense_model()
    step = loops.TrainStep(ours, logits.crossentropy(), keras.optimizers.Adam(1e-2))
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(theirs.trainable_variables)
    loss_function = logits.crossentropy()
    for count, (x, y, _) in zip(range(9), logits.batches(), strict=False):
        head_only = 3 <= count < 6
        step.train_only("head" if head_only else "*")
        step(x, y)
        with tf.GradientTape() as tape:
            loss = loss_function(y, theirs(x, training=True)) + tf.add_n(theirs.losses)
        variables = [v for v in theirs.trainable_variables if not head_only or "head" in v.path]
        optimizer.apply(tape.gradient(loss, variables), variables)
    assert_same_weights(ours, theirs, rtol=1e-6)


def test_changing_the_choice_drops_what_was_accumulated(logits, assert_same_weights):
    ours, theirs = logits.dense_model(), logits.dense_model()
    step = loops.TrainStep(ours, logits.crossentropy(), keras.optimizers.SGD(0.1), accumulate=2)
    other = loops.TrainStep(theirs, logits.crossentropy(), keras.optimizers.SGD(0.1), accumulate=2)
    step(logits.x[:8], logits.y[:8])  # half of an update that never comes
    step.train_only("head")
    step.train_only("*")
    for part in (slice(8, 16), slice(16, 24)):
        step(logits.x[part], logits.y[part])
        other(logits.x[part], logits.y[part])
    assert int(step.optimizer.iterations) == 1
    assert_same_weights(ours, theirs, rtol=1e-6)


def test_layers_keep_their_trainable_flags(logits):
    model = logits.norm_model()
    norm = model.get_layer("norm")
    norm.gamma.trainable = False
    step = loops.TrainStep(model, logits.crossentropy(), "sgd", variables="head")
    step(logits.x, logits.y)
    assert norm.trainable and norm.beta.trainable and not norm.gamma.trainable
    assert not norm.moving_mean.trainable


def test_constructor_changes_nothing(logits):
    model, optimizer = logits.norm_model(), keras.optimizers.Adam()
    weights = model.get_weights()
    loops.TrainStep(model, logits.crossentropy(), optimizer, variables="head")
    assert not optimizer.built
    assert all(layer.trainable for layer in model.layers)
    for left, right in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
