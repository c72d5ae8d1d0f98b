"""Update: unscale, check, accumulate, clip, apply, against Keras and against arithmetic by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops


def variables():
    return {"a": keras.Variable([1.0, 2.0]), "b": keras.Variable([[3.0]])}


GRADIENTS = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_clip_is_by_the_norm_over_all_variables(graph):
    chosen = variables()
    update = loops.Update(keras.optimizers.SGD(1.0), chosen, clip_norm=1.0)
    call = tf.function(update) if graph else update
    call(GRADIENTS)
    np.testing.assert_allclose(chosen["a"].numpy(), [1.0 - 0.6, 2.0], rtol=1e-6)
    np.testing.assert_allclose(chosen["b"].numpy(), [[3.0 - 0.8]], rtol=1e-6)


def test_a_norm_below_the_limit_is_left_alone():
    ours, theirs = variables(), variables()
    loops.Update(keras.optimizers.Adam(0.1), ours, clip_norm=100.0)(GRADIENTS)
    keras.optimizers.Adam(0.1).apply(GRADIENTS, list(theirs.values()))
    for name in ours:
        np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy())


def test_accumulation_averages_then_clips_once():
    chosen = variables()
    update = loops.Update(keras.optimizers.SGD(1.0), chosen, clip_norm=1.0, accumulate=2)
    update([tf.constant([6.0, 0.0]), tf.constant([[0.0]])])
    np.testing.assert_array_equal(chosen["a"].numpy(), [1.0, 2.0])
    assert int(update.optimizer.iterations) == 0
    update([tf.constant([0.0, 0.0]), tf.constant([[8.0]])])
    np.testing.assert_allclose(chosen["a"].numpy(), [0.4, 2.0], rtol=1e-6)
    np.testing.assert_allclose(chosen["b"].numpy(), [[2.2]], rtol=1e-6)
    assert int(update.optimizer.iterations) == 1
    update(GRADIENTS)
    update(GRADIENTS)  # the sums began at zero again
    np.testing.assert_allclose(chosen["a"].numpy(), [-0.2, 2.0], atol=1e-6)


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_accumulation_by_what_each_call_counts(on_nonfinite):
    """A linear model over parts of 4, 4, 4 and 1 of 13 examples, and their whole by NumPy."""
    x, y = np.random.RandomState(0).rand(2, 13)
    weight = keras.Variable([0.5])
    update = loops.Update(keras.optimizers.SGD(1.0), [weight], accumulate=4, on_nonfinite=on_nonfinite)
    for part in np.split(np.arange(13), [4, 8, 12]):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((weight * x[part] - y[part]) ** 2)
        update(tape.gradient(loss, update.variables), loss, weight=len(part))
    np.testing.assert_allclose(weight.numpy(), [0.5 - np.mean(2 * (0.5 * x - y) * x)], rtol=1e-6)


def test_sparse_gradients_are_applied_and_checked():
    table = keras.Variable(np.ones((4, 2), "float32"))
    update = loops.Update(keras.optimizers.SGD(1.0), {"table": table}, clip_norm=10.0)
    shape = tf.constant([4, 2])
    update([tf.IndexedSlices(tf.constant([[1.0, 2.0]]), tf.constant([2]), shape)])
    np.testing.assert_allclose(table.numpy()[2], [0.0, -1.0])
    with pytest.raises(loops.NonFiniteError, match="'table'"):
        update([tf.IndexedSlices(tf.constant([[np.nan, 2.0]]), tf.constant([2]), shape)])
    np.testing.assert_allclose(table.numpy()[2], [0.0, -1.0])


def scaled(**options):
    chosen = variables()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), **options)
    return chosen, loops.Update(optimizer, chosen), optimizer


def test_loss_scale_unscales_grows_and_halves_as_keras_does():
    ours, update, optimizer = scaled(initial_scale=8.0, dynamic_growth_steps=2)
    theirs = variables()
    reference = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1.0), initial_scale=8.0, dynamic_growth_steps=2
    )
    reference.build(list(theirs.values()))
    bad = [tf.constant([np.inf, 0.0]), tf.constant([[1.0]])]
    for gradients in (GRADIENTS, GRADIENTS, bad, GRADIENTS, bad, GRADIENTS, GRADIENTS):
        assert float(update.scale_loss(tf.constant(1.0))) == float(optimizer.dynamic_scale)
        taken = update(gradients)
        reference.apply(gradients, list(theirs.values()))
        assert bool(taken) == (gradients is GRADIENTS)
        assert float(optimizer.dynamic_scale) == float(reference.dynamic_scale)
        assert int(optimizer.iterations) == int(reference.iterations)
        for name in ours:
            np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy())


def test_the_scale_does_not_fall_for_ever():
    chosen, update, optimizer = scaled(initial_scale=2.0)
    bad = [tf.constant([1.0, 0.0]), tf.constant([[np.nan]])]
    assert not bool(update(bad))
    with pytest.raises(loops.NonFiniteError, match="'b'"):
        update(bad)
    np.testing.assert_array_equal(chosen["a"].numpy(), [1.0, 2.0])
    assert float(optimizer.dynamic_scale) == 1.0


def test_clipping_sees_unscaled_gradients():
    chosen = variables()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=64.0)
    update = loops.Update(optimizer, chosen, clip_norm=1.0)
    update([64.0 * g for g in GRADIENTS])
    np.testing.assert_allclose(chosen["a"].numpy(), [0.4, 2.0], rtol=1e-6)


def test_weight_decay_touches_what_trains_alone():
    everything = variables()
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.build(list(everything.values()))
    update = loops.Update(optimizer, {"a": everything["a"]})
    update([tf.zeros([2])])
    np.testing.assert_allclose(everything["a"].numpy(), [0.95, 1.9], rtol=1e-6)
    np.testing.assert_array_equal(everything["b"].numpy(), [[3.0]])


def test_a_check_that_the_caller_has_made_costs_no_operation_a_variable():
    """On a GPU each takes longer to start than to run."""
    update = loops.Update(keras.optimizers.SGD(1.0), variables())

    call = tf.function(lambda given, finite=None: update.apply(given, finite=finite), autograph=False)

    def checks(*arguments):
        operations = call.get_concrete_function(GRADIENTS, *arguments).graph.get_operations()
        return sum(operation.type == "CheckNumerics" for operation in operations)

    assert checks() == 2
    assert checks(tf.TensorSpec((), tf.bool)) == 0
    bad = [tf.constant([1.0, 2.0]), tf.constant([[np.nan]])]
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient of <b>"):
        call(bad, tf.constant(False))


def test_bad_arguments_raise_at_the_door():
    chosen = variables()
    sgd = keras.optimizers.SGD
    with pytest.raises(TypeError, match="`optimizer` must be a Keras optimizer, not 'sgd'"):
        loops.Update("sgd", chosen)
    with pytest.raises(ValueError, match="`variables` is empty"):
        loops.Update(sgd(), [])
    for given, message in (
        (
            chosen["a"],
            "must be a list of variables, such as `model.trainable_variables`, or a dict .*, not <",
        ),
        ({"a": tf.Variable(1.0)}, "holds <tf.Variable .*, which is no Keras variable: take .* make one by"),
    ):
        with pytest.raises(TypeError, match=f"`variables` {message}"):
            loops.Update(sgd(), given)
    for clip in (0, -1.0, float("nan"), "1"):
        with pytest.raises((TypeError, ValueError), match="`clip_norm` must be a (finite )?number above 0"):
            loops.Update(sgd(), chosen, clip_norm=clip)
    for accumulate in (0, 1.5, True):
        with pytest.raises((TypeError, ValueError), match="`accumulate` must be .*at least 1"):
            loops.Update(sgd(), chosen, accumulate=accumulate)
    with pytest.raises(ValueError, match="`on_nonfinite` must be one of 'raise', 'skip', 'ignore', not 'x'"):
        loops.Update(sgd(), chosen, on_nonfinite="x")
    optimizer = sgd(momentum=0.9)
    optimizer.build([chosen["a"]])
    with pytest.raises(ValueError, match="`optimizer` was built without 'b'.*optimizer.build"):
        loops.Update(optimizer, chosen)


def test_bad_gradients_raise_at_the_door():
    update = loops.Update(keras.optimizers.SGD(), variables())
    with pytest.raises(ValueError, match="`gradients` has 1 entries for 2 variables"):
        update(GRADIENTS[:1])
    with pytest.raises(ValueError, match="The loss has no gradient for 'b'"):
        update([GRADIENTS[0], None])


def test_a_list_of_variables_is_named_by_path():
    weight = keras.Variable([1.0], name="weight")
    update = loops.Update(keras.optimizers.SGD(), [weight])
    with pytest.raises(loops.NonFiniteError, match="'weight'"):
        update([tf.constant([np.nan])])


def test_averages_of_a_subset_are_refused():
    """Keras pairs averages and variables by position (`zip`): the head's would be the first layer's."""
    everything = variables()
    optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    optimizer.build(list(everything.values()))
    with pytest.raises(ValueError, match="`use_ema=True` and was built over other variables"):
        loops.Update(optimizer, {"b": everything["b"]})
    loops.Update(optimizer, everything)


def test_the_norm_of_a_sparse_gradient_is_that_of_its_sum():
    table = keras.Variable(np.zeros((3, 1), "float32"))
    update = loops.Update(keras.optimizers.SGD(1.0), {"table": table}, clip_norm=0.1)
    repeated = tf.IndexedSlices(tf.constant([[1.0]] * 4), tf.constant([1, 1, 1, 1]), tf.constant([3, 1]))
    update([repeated])
    np.testing.assert_allclose(np.linalg.norm(table.numpy()), 0.1, rtol=1e-6)


def test_a_loss_scale_beyond_float16_does_not_zero_gradients():
    weight = keras.Variable(np.ones(1), dtype="float16")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=65536.0)
    loops.Update(optimizer, {"weight": weight})([tf.constant([16384.0], tf.float16)])
    np.testing.assert_allclose(weight.numpy(), [1.0 - 0.5 * 0.25])
