"""Watched steps on replicas measure what a loop by hand does; devices are made before TensorFlow starts."""

import contextlib
import sys

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

strategy = loops.strategy(f"mirrored:cpu:{sys.argv[1]}")

from tests.loops.step import watched  # noqa: E402
from tests.tolerance import rounding  # noqa: E402

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")


def run(make=watched.plain, epochs=2, callbacks=(), **options):
    seen = watched.Seen(every=2)
    with strategy.scope():
        network = watched.model()
        step = loops.TrainStep(network, watched.LOSS, make(network), **options)
    loops.train(step, watched.data(), epochs=epochs, callbacks=[seen, *callbacks])
    scales = {each.scalars.pop("loss_scale/all", None) for each in seen.seen.values()}
    return seen.seen, scales


def check(found, **options):
    expected = watched.by_hand(6, **options)
    watched.assert_equal(found, {n: each for n, each in expected.items() if n % 2 == 0}, rounding())


found, scales = run(clip_norm=0.3)
check(found, clip=0.3)
assert scales == {None}
found, scales = run(
    lambda model: keras.optimizers.LossScaleOptimizer(watched.plain(model)), accumulate=2, carry=True
)
check(found, accumulate=2)
assert scales == {2.0**15}
found, _ = run(watched.grouped, callbacks=[watched.Unfreeze()])
check(found, unfreezes=True)


# In a loop of one's own.
with strategy.scope():
    network = watched.model()
    update = loops.Update(watched.plain(network), network.trainable_variables, clip_norm=0.3, accumulate=2)

    @loops.replicated
    def step(x, y):
        with tf.GradientTape() as tape:
            each = keras.losses.sparse_categorical_crossentropy(y, network(x, training=True), True)
            loss = loops.mean_loss(each)
        return update.measured(tape.gradient(loss, [v.value for v in update.variables]), loss, tf.shape(y)[0])


expected = watched.by_hand(4, clip=0.3, accumulate=2)
for number in range(1, 5):
    part = slice((number - 1) % 3 * 8, (number - 1) % 3 * 8 + 8)
    found = {tag: float(value) for tag, value in step(watched.X[part], watched.Y[part]).items()}
    if number in expected:
        assert set(found) == set(expected[number])
        for tag, value in found.items():
            np.testing.assert_allclose(value, expected[number][tag], rounding(), err_msg=tag)
    else:
        assert np.isnan(found["grad_norm/all"])

# Activations and histograms are of the whole batch, and of all its gradients.
alone, many = (watched.Seen(every=2, histograms="*", histograms_every=3, activations="*") for _ in range(2))
for seen, scope in ((alone, contextlib.nullcontext()), (many, strategy.scope())):
    with scope:
        step = loops.TrainStep(network := watched.model(), watched.LOSS, watched.plain(network))
    loops.train(step, watched.data(), epochs=1, callbacks=[seen])
assert list(many.seen) == [2, 3] and not many.seen[3].scalars and not many.seen[2].histograms
assert many.seen[3].histograms.keys() == alone.seen[3].histograms.keys() and len(many.seen[3].histograms) == 8
for tag, value in many.seen[2].scalars.items():
    np.testing.assert_allclose(value, alone.seen[2].scalars[tag], rounding(), err_msg=tag)
for tag, (counts, edges) in many.seen[3].histograms.items():
    np.testing.assert_allclose(edges, alone.seen[3].histograms[tag].edges, 1e-6, 1e-7, err_msg=tag)
    assert counts.sum() == alone.seen[3].histograms[tag].counts.sum() > 0
