"""What `Update` refuses, function by function; `test_update.py` has the same at its door."""

import keras
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.update.checks import (
    check_betas,
    check_built_for,
    check_gradients,
    check_loss_scale_settings,
    check_optimizer_methods,
    check_update_options,
    check_weight,
)
from gradloop.optim import GroupedOptimizer, partition


@pytest.mark.parametrize("clip_norm", [0, -1.0, float("nan"), float("inf"), "1"])
def test_clip_norms_that_limit_nothing(clip_norm):
    with pytest.raises((TypeError, ValueError), match="`clip_norm` must be a (finite )?number above 0, got"):
        check_update_options(clip_norm, 1, "raise")


@pytest.mark.parametrize("accumulate", [0, -2, 1.0, True, None])
def test_numbers_of_batches_that_are_none(accumulate):
    with pytest.raises((TypeError, ValueError), match="`accumulate` must be .*at least 1, got"):
        check_update_options(None, accumulate, "raise")


def test_options_that_are_taken():
    with pytest.raises(
        ValueError, match="must be one of 'raise', 'skip', 'ignore', not 'stop'. .*TrainStep.* 'restore'"
    ):
        check_update_options(None, 1, "stop")
    for on_nonfinite in ("raise", "skip", "ignore"):
        check_update_options(0.5, 3, on_nonfinite)


def test_optimizers_that_do_not_know_what_trains():
    a, b = keras.Variable([1.0]), keras.Variable([2.0])
    optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    optimizer.build([a])
    check_built_for(optimizer, [a], ["a"])
    with pytest.raises(ValueError, match="was built without 'b', so it has no state for it"):
        check_built_for(optimizer, [a, b], ["a", "b"])
    both = keras.optimizers.SGD(0.1, use_ema=True)
    both.build([a, b])
    with pytest.raises(ValueError, match="Keras would average the wrong ones"):
        check_built_for(both, [b], ["b"])
    plain = keras.optimizers.SGD(0.1)
    plain.build([a, b])
    check_built_for(plain, [b], ["b"])


def test_settings_that_a_loss_scale_does_not_hand_on():
    K = keras.optimizers
    inner, names = K.SGD(weight_decay=0.1, clipnorm=1.0), ["bias"]
    inner.exclude_from_weight_decay(var_names=names)
    check_loss_scale_settings(K.LossScaleOptimizer(inner))
    check_loss_scale_settings(inner)
    for change, message in (
        (
            lambda o: setattr(o, "weight_decay", 0.5),
            "`weight_decay=0.5`, which Keras reads on the inner",
        ),
        (lambda o: setattr(o, "clipnorm", 2.0), "`clipnorm=2.0`.*set it on `optimizer.inner_optimizer`"),
        (
            lambda o: o.exclude_from_weight_decay(var_names=names),
            r"`exclude_from_weight_decay\(...\)`, which",
        ),
    ):
        optimizer = K.LossScaleOptimizer(K.SGD())
        change(optimizer)
        with pytest.raises(ValueError, match=f"`optimizer` is a LossScaleOptimizer with {message}"):
            check_loss_scale_settings(optimizer)


def test_methods_that_would_not_be_asked_for():
    class Careful(keras.optimizers.LossScaleOptimizer):
        def check_finite(self, gradients):
            return True

    class Doubled(GroupedOptimizer):
        def apply(self, grads, trainable_variables=None):
            return super().apply([2 * gradient for gradient in grads], trainable_variables)

    layer = keras.layers.Dense(1)
    layer.build((None, 1))
    doubled = Doubled(keras.optimizers.SGD(), partition(layer, {"all": "*"}))
    for optimizer, message in (
        (
            Careful(keras.optimizers.SGD()),
            "is a Careful whose own `check_finite` would not be called: `Up",
        ),
        (
            doubled,
            "is a Doubled whose own `apply` would not be called: .*what GroupedOptimizer does there. Over",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            check_optimizer_methods(optimizer)
    for optimizer in (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), keras.optimizers.SGD()):
        check_optimizer_methods(optimizer)


def test_averages_of_scales_are_refused():
    scale = keras.Variable([1.0])
    scale.overwrite_with_gradient = True
    optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    optimizer.build([scale])
    with pytest.raises(
        ValueError, match="`use_ema=True`, and 'scale' is a scale of a float8 layer.*Wrap it in"
    ):
        check_built_for(optimizer, [scale], ["scale"])


def test_gradients_that_are_missing():
    one = tf.constant([1.0])
    check_gradients([one, one], ["a", "b"])
    with pytest.raises(ValueError, match="`gradients` has 1 entries for 2 variables"):
        check_gradients([one], ["a", "b"])
    with pytest.raises(ValueError, match="no gradient for 'b', 'c': it does not depend on them"):
        check_gradients([one, None, None], ["a", "b", "c"])


def test_what_a_call_counts_is_one_number():
    assert float(check_weight(3)) == float(check_weight(tf.constant(3, tf.int64))) == 3.0
    with pytest.raises(ValueError, match=r"`weight` has shape \(2,\), and is one number"):
        check_weight([1.0, 2.0])


def of_dtype(dtype):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, dtype=dtype, name="head")])


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ["Adam", "AdamW", "Nadam"])
def test_moments_that_a_dtype_cannot_correct_are_refused(name, grouped):
    def update(dtype, **betas):
        model, optimizer = of_dtype(dtype), getattr(keras.optimizers, name)(0.1, **betas)
        if grouped:
            optimizer = GroupedOptimizer(optimizer, partition(model, {"all": "*"}))
        return loops.Update(optimizer, model.trainable_variables)

    said = rf"is {name} with `beta_2=0.999`, which is 1 in bfloat16, .*kernel.* `dtype='mixed_bfloat16'`"
    with pytest.raises(ValueError, match=said):
        update("bfloat16")
    for dtype, betas in (("mixed_bfloat16", {}), ("float16", {}), ("bfloat16", {"beta_2": 0.99})):
        made = update(dtype, **betas)
        before = [variable.numpy() for variable in made.variables]
        made([tf.ones_like(variable.value) for variable in made.variables])
        for variable, old in zip(made.variables, before):
            moved = variable.numpy().astype("float32") - old.astype("float32")
            assert (moved < -0.05).all(), (dtype, moved)


def test_keras_still_moves_no_weight_there():
    variable = keras.Variable([1.0], dtype="bfloat16")
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([variable])
    optimizer.apply([tf.constant([1.0], tf.bfloat16)], [variable])
    assert float(variable.numpy()[0]) == 1.0, "or `check_betas` is not needed any more"
    check_betas(keras.optimizers.SGD(0.1), [variable], ["v"])
