"""What a TrainStep refuses, when it is made and at its first step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim


def test_bad_arguments_raise_at_the_door(logits):
    model = logits.dense_model()
    with pytest.raises(TypeError, match="`model` must be a keras.Model, not 'lenet'"):
        loops.TrainStep("lenet", "mse", "sgd")
    with pytest.raises(optim.NotBuiltError, match="built"):
        loops.TrainStep(keras.Sequential([keras.layers.Dense(2)]), "mse", "sgd")
    with pytest.raises(ValueError, match="`optimizer` 'adamm' is no Keras optimizer. Did you mean 'adam'"):
        loops.TrainStep(model, "mse", "adamm")
    with pytest.raises(ValueError, match="'qqq' is no Keras optimizer. Pass one, or a name such as"):
        loops.TrainStep(model, "mse", "qqq")
    with pytest.raises(TypeError, match="`optimizer` must be a Keras optimizer or its name, not 0.1"):
        loops.TrainStep(model, "mse", 0.1)
    with pytest.raises(TypeError, match=r"not <class .*Adam'>: call it, `Adam\(\)`"):
        loops.TrainStep(model, "mse", keras.optimizers.Adam)
    with pytest.raises(ValueError, match="`jit_compile` must be True, False or 'auto', not 'yes'"):
        loops.TrainStep(model, "mse", "sgd", jit_compile="yes")
    with pytest.raises(ValueError, match="`clip_norm` must be a finite number above 0"):
        loops.TrainStep(model, "mse", "sgd", clip_norm=-1.0)
    with pytest.raises(optim.SelectionError, match="haed"):
        loops.TrainStep(model, "mse", "sgd", variables="haed")
    with pytest.raises(ValueError, match="`variables` holds .* not a trainable variable of model"):
        loops.TrainStep(model, "mse", "sgd", variables=logits.dense_model().trainable_variables)
    model.trainable = False
    with pytest.raises(ValueError, match="`model` has no trainable variables"):
        loops.TrainStep(model, "mse", "sgd")


def test_a_variable_without_gradient_is_named(logits):
    model = logits.dense_model()

    def loss(model, batch):
        return tf.reduce_mean(model.get_layer("hidden")(batch[0]) ** 2)

    step = loops.TrainStep(model, loss, "sgd")
    with pytest.raises(ValueError, match="no gradient for 'head/kernel', 'head/bias'"):
        step(logits.x, logits.y)


def test_an_optimizer_built_without_a_variable_is_refused(logits):
    model = logits.dense_model()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.get_layer("head").trainable_variables)
    step = loops.TrainStep(model, logits.crossentropy(), optimizer)
    with pytest.raises(ValueError, match="`optimizer` was built without 'hidden/kernel'"):
        step(logits.x, logits.y)


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has none")
def test_an_optimizer_of_several_trains_all_or_is_refused(logits):
    model = logits.dense_model()
    optimizer = keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD(0.1))
    step = loops.TrainStep(model, logits.crossentropy(), optimizer)
    step(logits.x, logits.y)
    before = model.get_weights()
    step.train_only("head")
    with pytest.raises(ValueError, match="`optimizer` is a MultiOptimizer, .* use `optim.GroupedOptimizer`"):
        step(logits.x, logits.y)
    for left, right in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)
    step.train_only("*")
    step(logits.x, logits.y)  # nothing is lost
