"""What is left of accumulated gradients when the data ends, against updates of large batches by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from tests.tolerance import rounding

pytestmark = pytest.mark.numbers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
Y = RNG.normal(size=(20, 1))
RATES = [0.3, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02]  # of one update after another
BATCH = 2  # so an epoch is ten batches: two updates of four, one of two


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return tf.gather(tf.constant(RATES, tf.float64), tf.cast(step, tf.int64))


def by_hand(*updates, clip=None):
    """The weight after gradient descent on the mean squares of lists of examples, one list an update."""
    weight = np.ones((3, 1))
    for rate, rows in zip(RATES, updates, strict=False):
        gradient = 2 * X[rows].T @ (X[rows] @ weight - Y[rows]) / len(rows)
        norm = np.linalg.norm(gradient)
        weight = weight - rate * gradient * (1.0 if clip is None else min(1.0, clip / norm))
    return weight


def made(optimizer=None, **options):
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="head")
    model = keras.Sequential([keras.Input((3,)), layer])
    return loops.TrainStep(model, "mse", optimizer or keras.optimizers.SGD(Rates()), **options)


def batches(x=X, rows=20):
    return loops.Batches(x[:rows], Y[:rows], BATCH, shuffle=False)


def dataset(x=X, rows=20):
    return tf.data.Dataset.from_tensor_slices((x[:rows], Y[:rows])).batch(BATCH)


def unknown(x=X, rows=20):
    return dataset(x, rows).filter(lambda x, y: True)


def check(step, weight, updates, waiting=0):
    np.testing.assert_allclose(step.model.get_weights()[0], weight, rtol=rounding("float64", 20, 7))
    assert (int(step.optimizer.iterations.numpy()), step.waiting) == (updates, waiting)


def rows(*batches):
    return [row for batch in batches for row in range(batch * BATCH, min((batch + 1) * BATCH, 20))]


EPOCH = [rows(0, 1, 2, 3), rows(4, 5, 6, 7), rows(8, 9)]
HOOK = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)


@pytest.mark.parametrize("data", [batches, dataset, unknown])
def test_what_is_left_makes_an_update_of_its_own(data):
    expected = by_hand(*EPOCH, *EPOCH)
    for callbacks in ([], [HOOK]):
        step = made(accumulate=4)
        loops.train(step, data(), epochs=2, callbacks=callbacks)
        check(step, expected, 6)
    step = made(accumulate=4)
    for _ in range(2):
        step.run(iter(data()), 11 if data is unknown else 10)
    check(step, expected, 6)
    if data is batches:
        step = made(accumulate=4)
        for _ in range(2):
            for batch in data():
                step(*batch)
            assert step.flush() == 2 and step.flush() == 0
        check(step, expected, 6)


@pytest.mark.parametrize("data", [batches, dataset, unknown])
def test_fewer_batches_than_an_update_takes(data):
    """A short last batch counts for what it holds: three batches of 2, 2 and 1 are one of 5."""
    step = made(accumulate=4, clip_norm=0.5)
    loops.train(step, data(rows=5), epochs=2)
    check(step, by_hand([*range(5)], [*range(5)], clip=0.5), 2)


def test_an_iterator_whose_end_is_not_known_yet():
    step = made(accumulate=4)
    iterator = iter(unknown())
    step.run(iterator, 10)
    check(step, by_hand(*EPOCH[:2]), 2, waiting=2)
    with pytest.raises(ValueError, match="`iterator` has no batch left"):
        step.run(iterator, 1)
    check(step, by_hand(*EPOCH), 3)


@pytest.mark.parametrize("data", [batches, dataset, unknown])
def test_carried_by_choice(data, capsys):
    step = made(accumulate=4, carry=True)
    loops.train(step, data(), epochs=2)
    check(step, by_hand(*EPOCH[:2], rows(8, 9, 0, 1), rows(2, 3, 4, 5), rows(6, 7, 8, 9)), 5)
    loops.train(step, data(rows=6), epochs=1)
    assert "`accumulate` is 4, and the gradients of 3 batches wait" in capsys.readouterr().out
    check(step, step.model.get_weights()[0], 5, waiting=3)
    step.run(iter(data(rows=6)), 2)
    assert step.waiting == 1 and step.flush() == 1 and step.waiting == 0


@pytest.mark.parametrize("data", [batches, dataset, unknown])
def test_epochs_that_do_not_end_the_data(data):
    """Five batches each: the data ends with the second and the fourth."""
    step = made(accumulate=4)
    loops.train(step, data(), epochs=3, steps_per_epoch=5)
    check(step, by_hand(*EPOCH, rows(0, 1, 2, 3)), 4, waiting=1)


def test_data_without_an_end():
    step = made(accumulate=4)
    loops.train(step, dataset().repeat(), epochs=3, steps_per_epoch=3)
    check(step, by_hand(*EPOCH[:2]), 2, waiting=1)
    step = made(accumulate=4)
    loops.train(step, batches(), epochs=1, steps_per_epoch=3)
    check(step, by_hand(), 0, waiting=3)


def test_it_is_told_once(capsys):
    step = made(accumulate=4)
    loops.train(step, batches(), epochs=2)
    assert capsys.readouterr().out == (
        "`accumulate` is 4, and the gradients of 2 batches were left when the data ended: they made an "
        "update too (`carry=True` would keep them).\n"
    )
    step = made(accumulate=5)
    loops.train(step, batches(), epochs=2)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("scaled", [False, True])
def test_steps_that_were_skipped_are_not_among_them(scaled):
    """Batch 1 is skipped, so the updates are of 0, 2, 3 and 4, of 5 to 8, and of 9."""
    x = X.copy()
    x[2] = np.nan
    optimizer = keras.optimizers.SGD(Rates())
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0) if scaled else optimizer
    step = made(optimizer, accumulate=4, on_nonfinite="skip")
    loops.train(step, batches(x), epochs=1)
    weight = by_hand(rows(0, 2, 3, 4), rows(5, 6, 7, 8), rows(9))
    np.testing.assert_allclose(step.model.get_weights()[0], weight, rtol=1e-5 if scaled else 1e-12)
    assert int(step.inner_optimizer.iterations.numpy()) == 3 and int(step.batches_done.numpy()) == 10


def test_an_update_in_a_loop_of_ones_own():
    weight = keras.Variable(np.ones((3, 1)))
    update = loops.Update(keras.optimizers.SGD(Rates()), [weight], accumulate=4)

    @tf.function(autograph=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((x @ weight.value - y) ** 2)
        update(tape.gradient(loss, [weight.value]), weight=tf.shape(x)[0])

    flush = tf.function(update.flush, autograph=False)
    for end in (update.flush, flush):
        for x, y in batches():
            step(x, y)
        assert update.waiting == 2
        assert bool(end()) and not bool(end())
        assert update.waiting == 0
    np.testing.assert_allclose(weight.numpy(), by_hand(*EPOCH, *EPOCH), rtol=1e-12)
    assert not loops.Update(keras.optimizers.SGD(), [weight]).flush()


def test_numbers_of_steps_after_updates_of_few_batches():
    """Three updates of ten batches are not taken for twelve batches."""
    step = made(accumulate=4)
    loops.train(step, batches(), epochs=1)
    loops.train(step, batches(), epochs=1)
    assert int(step.batches_done.numpy()) == 20


@pytest.mark.parametrize("carry", [1, None, "no"])
def test_carry_is_a_choice(carry):
    with pytest.raises(TypeError, match="`carry` must be True, to keep .*, or False, not "):
        made(accumulate=4, carry=carry)
