"""What holds for all groups together: clipping, accumulation, loss scale, constraints, counts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import Group, GroupedOptimizer, partition
from gradloop.optim.optimizer.grouped_update import GroupedUpdate

K = keras.optimizers
BODY, HEAD = [3.0, 4.0], [0.0, 12.0]  # together of norm 13


class Weights(keras.layers.Layer):
    def __init__(self, constraint=None):
        super().__init__()
        self.body = keras.Variable([1.0, 1.0], name="body")
        self.head = keras.Variable([1.0, 1.0], name="head")
        self.head.constraint = constraint
        self.built = True


def made(optimizer, body=None, head=None, **options):
    weights = Weights(**options)
    groups = {"body": Group("body", **(body or {})), "head": Group("head", **(head or {}))}
    return weights, GroupedOptimizer(optimizer, partition(weights, groups))


def moved(weights):
    return [1 - weights.body.numpy(), 1 - weights.head.numpy()]


def gradients(body=BODY, head=HEAD):
    return [tf.constant(body), tf.constant(head)]


# -- clipping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("traced", [False, True])
def test_the_global_norm_is_over_all_groups(traced):
    weights, optimizer = made(K.SGD(1.0, global_clipnorm=1.0), body={"optimizer": K.SGD(1.0, momentum=0.9)})
    apply = tf.function(optimizer.apply) if traced else optimizer.apply
    apply(gradients())
    np.testing.assert_allclose(moved(weights), [np.divide(BODY, 13), np.divide(HEAD, 13)], rtol=1e-6)


@pytest.mark.skipif(not hasattr(K, "MultiOptimizer"), reason="this Keras has no MultiOptimizer")
def test_keras_clips_each_piece():
    """What a user of MultiOptimizer gets: a norm of 1.41 for a limit of 1."""
    weights = Weights()
    pieces = {name: K.SGD(1.0, global_clipnorm=1.0) for name in ("body", "head")}
    multi = K.MultiOptimizer(lambda variable: pieces[variable.name])
    multi.build(weights.trainable_variables)
    multi.apply(gradients())
    assert np.linalg.norm(moved(weights)) == pytest.approx(2**0.5)
    weights, optimizer = made(K.SGD(1.0, global_clipnorm=1.0))
    optimizer.apply(gradients())
    assert np.linalg.norm(moved(weights)) == pytest.approx(1.0)


@pytest.mark.parametrize("how", ["eager", "traced", "traced before", "traced again"])
def test_a_frozen_group_is_not_in_the_norm(how):
    weights, optimizer = made(K.SGD(1.0, global_clipnorm=1.0))
    apply = optimizer.apply
    if how == "traced again":
        # As in a `TrainStep`, whose graph has no frozen groups.
        update = optimizer.grouped_update
        members = update.members_of(weights.trainable_variables)
        apply = tf.function(lambda given: update.apply(optimizer, list(zip(members, given)), retraces=True))
    elif how != "eager":
        apply = tf.function(optimizer.apply)
    if how == "traced before":
        apply(gradients([0.0, 0.0], [0.0, 0.0]))
    optimizer.freeze("head")
    # Nor does it poison the others.
    for head in (HEAD, [np.nan, np.inf]):
        apply(gradients(BODY, head))
    np.testing.assert_allclose(moved(weights)[0], np.multiply(2 / 5, BODY), rtol=1e-6)


def test_clipped_rows_that_repeat_count_with_their_sum():
    class Table(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.rows = keras.Variable(np.zeros((3, 1), "float32"), name="rows")
            self.built = True

    table = Table()
    optimizer = GroupedOptimizer(K.SGD(1.0, global_clipnorm=5.0), partition(table, {"all": "*"}))
    shape = tf.constant([3, 1])
    optimizer.apply([tf.IndexedSlices(tf.constant([[3.0], [4.0], [3.0]]), tf.constant([0, 1, 0]), shape)])
    norm = np.hypot(6, 4)
    np.testing.assert_allclose(table.rows.numpy()[:, 0], [-6 * 5 / norm, -4 * 5 / norm, 0], rtol=1e-6)


def test_a_gradient_that_is_not_finite_shows():
    weights, optimizer = made(K.SGD(1.0, global_clipnorm=1.0))
    optimizer.apply(gradients(head=[np.inf, 0.0]))
    assert np.isnan(moved(weights)).all()


def test_gradients_below_the_limit_are_left_alone():
    weights, optimizer = made(K.SGD(1.0, global_clipnorm=13.5))
    optimizer.apply(gradients())
    np.testing.assert_allclose(moved(weights), [BODY, HEAD], rtol=1e-6)
    weights, optimizer = made(K.SGD(1.0, global_clipnorm=1.0))
    optimizer.apply(gradients([0.0, 0.0], [0.0, 0.0]))
    np.testing.assert_array_equal(moved(weights), np.zeros((2, 2)))


@pytest.mark.parametrize(
    "limit, expected",
    [
        ({"clipnorm": 1.0}, [np.divide(BODY, 5), np.divide(HEAD, 12)]),
        ({"clipvalue": 3.5}, [[3.0, 3.5], [0.0, 3.5]]),
    ],
)
def test_other_limits_hold_for_groups_with_an_optimizer_of_their_own(limit, expected):
    weights, optimizer = made(K.SGD(1.0, **limit), head={"optimizer": K.SGD(1.0)})
    optimizer.apply(gradients())
    np.testing.assert_allclose(moved(weights), expected, rtol=1e-6)


def test_a_limit_is_for_the_mean_of_gradients_that_are_not_scaled():
    settings = {"loss_scale_factor": 4.0, "gradient_accumulation_steps": 2, "global_clipnorm": 1.0}
    weights, optimizer = made(K.SGD(1.0, **settings))
    optimizer.apply(gradients(np.multiply(8, BODY).tolist(), [0.0, 0.0]))
    np.testing.assert_array_equal(moved(weights), np.zeros((2, 2)))
    optimizer.apply(gradients([0.0, 0.0], np.multiply(8, HEAD).tolist()))
    np.testing.assert_allclose(moved(weights), [np.divide(BODY, 13), np.divide(HEAD, 13)], rtol=1e-6)


# -- accumulation ------------------------------------------------------------------------------------------


BATCHES = [np.random.RandomState(seed).standard_normal((2, 2)).astype("float32") for seed in range(6)]


@pytest.mark.parametrize(
    "make", [lambda **k: K.Adam(0.1, **k), lambda **k: K.Lion(0.1, weight_decay=0.1, **k)]
)
@pytest.mark.parametrize("traced", [False, True])
def test_accumulated_equals_the_big_batch(make, traced):
    parts, optimizer = made(make(gradient_accumulation_steps=3, global_clipnorm=0.5))
    apply = tf.function(optimizer.apply) if traced else optimizer.apply
    for batch in BATCHES:
        apply([tf.constant(gradient) for gradient in batch])
    whole, other = made(make(global_clipnorm=0.5))
    for big in (np.mean(BATCHES[:3], axis=0), np.mean(BATCHES[3:], axis=0)):
        other.apply([tf.constant(gradient) for gradient in big])
    np.testing.assert_allclose(moved(parts), moved(whole), rtol=1e-6)
    assert int(optimizer.iterations.numpy()) == int(other.iterations.numpy()) == 2


def test_schedules_count_updates():
    """Keras' own schedule runs as many times too fast as there are micro-steps."""
    schedule = K.schedules.PolynomialDecay(1.0, 100, 0.0)
    weights, optimizer = made(K.SGD(schedule, gradient_accumulation_steps=5))
    bare = K.SGD(schedule, gradient_accumulation_steps=5)
    bare.build(weights.trainable_variables)
    for _ in range(50):
        optimizer.apply(gradients())
        bare.apply(gradients())
    assert float(bare.learning_rate) == pytest.approx(0.5)  # as if after 50 updates
    assert float(optimizer.learning_rate) == pytest.approx(0.9)
    assert optimizer.learning_rates == pytest.approx({"body": 0.9, "head": 0.9})


@pytest.mark.parametrize("traced", [False, True])
def test_what_was_accumulated_before_a_freeze_does_not_come_up_later(traced):
    weights, optimizer = made(K.SGD(1.0, gradient_accumulation_steps=2))
    apply = tf.function(optimizer.apply) if traced else optimizer.apply
    apply(gradients())
    optimizer.freeze("body")
    for _ in range(3):
        apply(gradients())
    np.testing.assert_array_equal(moved(weights)[0], [0, 0])
    optimizer.unfreeze("body")
    for _ in range(2):
        apply(gradients([1.0, 2.0]))
    np.testing.assert_allclose(moved(weights), [[1, 2], np.multiply(3, HEAD)])


def test_half_an_accumulation_is_saved(tmp_path):
    _, optimizer = made(K.SGD(1.0, gradient_accumulation_steps=2))
    optimizer.apply(gradients())
    path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "ck"))
    weights, other = made(K.SGD(1.0, gradient_accumulation_steps=2))
    tf.train.Checkpoint(optimizer=other).restore(path).assert_consumed()
    other.apply(gradients([1.0, 2.0], [3.0, 4.0]))
    np.testing.assert_allclose(moved(weights), [[2, 3], [1.5, 8]])


# -- the rest ----------------------------------------------------------------------------------------------


def test_constraints_are_applied_after_the_update():
    weights, optimizer = made(K.SGD(1.0), constraint=keras.constraints.NonNeg())
    optimizer.apply(gradients())
    np.testing.assert_array_equal(weights.head, [1, 0])
    weights, optimizer = made(K.Lion(1.0), constraint=keras.constraints.NonNeg())
    optimizer.apply(gradients())
    np.testing.assert_array_equal(weights.head, [1, 0])


def test_the_loss_scale_is_divided_out_of_sparse_gradients_too():
    weights, optimizer = made(K.SGD(1.0, loss_scale_factor=4.0))
    assert float(optimizer.scale_loss(tf.constant(2.0))) == 8.0
    sparse = tf.IndexedSlices(tf.constant([8.0]), tf.constant([1]), tf.constant([2]))
    optimizer.apply([tf.constant([4.0, 0.0]), sparse])
    np.testing.assert_array_equal(moved(weights), [[1, 0], [0, 2]])


def test_averages_of_what_has_had_an_update():
    weights, optimizer = made(K.SGD(1.0, use_ema=True, ema_momentum=0.5))
    body, head = weights.trainable_variables
    optimizer.apply([tf.constant([1.0, 1.0])], [body])
    optimizer.apply([tf.constant([2.0, 2.0])], [body])
    optimizer.finalize_variable_values([body, head])
    np.testing.assert_array_equal(body, [-1, -1])  # of 0 and -2
    np.testing.assert_array_equal(head, [1, 1])


def test_reading_the_averages_changes_none_of_them():
    """Keras' saving reads every attribute; `SwapEMAWeights` goes through the averages."""
    weights, optimizer = made(K.SGD(1.0, use_ema=True))
    state = optimizer.grouped_update.state
    optimizer.apply([tf.constant(BODY)], [weights.body])
    weights.body.assign([7.0, 7.0])
    averages = optimizer._model_variables_moving_average
    np.testing.assert_array_equal(state["head/average"], [0, 0])
    # What has had no update has its value for an average.
    np.testing.assert_array_equal(list(averages), [[-2, -3], [1, 1]])


def test_no_averages_without_use_ema():
    _, optimizer = made(K.SGD(1.0))
    assert not hasattr(optimizer, "_model_variables_moving_average")


def test_each_variable_counts_its_own_updates():
    weights, optimizer = made(K.Adam(), head={"optimizer": K.Lion()})
    body, head = weights.trainable_variables
    counts = optimizer.grouped_update.counts
    for variables in ([body, head], [body], [head, body]):
        optimizer.apply([tf.constant(BODY)] * len(variables), variables)
    assert counts.by_name() == {"body": 3, "head": 2}
    assert int(optimizer.iterations.numpy()) == 3
    counts.restore({"body": 7, "head": 5}, partial=False)
    assert counts.by_name() == {"body": 7, "head": 5}
    counts.restore({"body": 8}, partial=True)
    assert counts.by_name() == {"body": 8, "head": 5}


def test_no_counts_where_none_matter():
    _, optimizer = made(K.SGD())
    assert optimizer.grouped_update.counts.by_name() == {}


def test_the_optimizer_that_is_wrapped_is_read_only():
    weights = Weights()
    inner = K.Adam(0.5, clipnorm=1.0)
    before = inner.get_config()
    update = GroupedUpdate(partition(weights, {"all": "*"}), inner)
    assert inner.get_config() == before
    assert not inner.built
    assert set(update.state) == {"body/momentum", "body/velocity", "head/momentum", "head/velocity"}
