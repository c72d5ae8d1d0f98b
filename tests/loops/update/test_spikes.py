"""A step whose loss is a spike is left out, and no other: decisions and weights are those of NumPy."""

import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.distribute.scope import scope_of
from gradloop.loops.update import spikes
from tests.programs import Program
from tests.tolerance import rounding

RATE, BATCH = 0.05, 4
SPIKE = loops.Spike(deviations=1.5, steps=8)
random = np.random.default_rng(0)
X = random.normal(size=(40 * BATCH, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * random.normal(size=len(X))
for bad in (1, 13, 14, 15, 16, 17, 30):  # the first before anything is known, then five in a row
    Y[bad * BATCH : (bad + 1) * BATCH] += 20.0


def by_numpy(deviations, steps, accumulate=1):
    """Each step's loss, which steps were taken, and the weights, of plain gradient descent."""
    weights, losses, taken, waiting = np.zeros(3), [], [], []
    for first in range(0, len(X), BATCH):
        x, y = X[first : first + BATCH], Y[first : first + BATCH]
        errors = x @ weights - y
        loss, last = np.mean(errors**2), losses[-steps:]
        taken.append(len(last) < max(2, steps // 2) or loss <= np.mean(last) + deviations * np.std(last))
        losses.append(loss)
        if taken[-1]:
            waiting.append(2 * x.T @ errors / BATCH)
        if len(waiting) == accumulate:
            weights, waiting = weights - RATE * np.mean(waiting, 0), []
    return np.array(losses), np.array(taken), weights


def make(on_spike=SPIKE, optimizer=None, **options):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="head")]
    )
    return loops.TrainStep(
        model, "mse", optimizer or keras.optimizers.SGD(RATE), on_spike=on_spike, **options
    )


def batches():
    return loops.Batches(X, Y[:, None], BATCH, shuffle=False)


def check(source, accumulate, strategy=None):
    """Decisions, losses and weights of a step are those of NumPy."""
    losses, taken, weights = by_numpy(SPIKE.deviations, SPIKE.steps, accumulate)
    assert 3 < (~taken).sum() < 15 and taken[1] and not taken[14] and taken[17], "what is tried"
    with scope_of(strategy):
        step = make(accumulate=accumulate)
    if source == "call":
        parts = [slice(first, first + BATCH) for first in range(0, len(X), BATCH)]
        found = [float(step(X[part], Y[part, None])["loss"]) for part in parts]
    else:
        dataset = tf.data.Dataset.from_tensor_slices((X, Y[:, None])).batch(BATCH)
        records = step.run_records(iter(batches() if source == "arrays" else dataset), len(taken))
        found = records.values()["loss"]
        assert list(records._rows[:, 1] >= 0) == list(taken)
    np.testing.assert_allclose(found, losses, 100 * rounding(), 100 * rounding())
    np.testing.assert_allclose(step.model.get_weights()[0][:, 0], weights, 0, 100 * rounding())
    assert int(step.optimizer.iterations.numpy()) == taken.sum() // accumulate
    np.testing.assert_allclose(step.last_losses.losses.numpy(), losses[-8:], 100 * rounding())


@pytest.mark.numbers
@pytest.mark.parametrize(
    ("source", "accumulate"),
    [("arrays", 2), pytest.param("dataset", 1, marks=pytest.mark.release), ("call", 1)],
)
def test_decisions_and_weights_are_those_of_numpy(source, accumulate):
    check(source, accumulate)


@pytest.mark.numbers
def test_on_two_replicas(tmp_path):
    Program(Path(__file__).parent / "programs" / "spikes.py", folder=tmp_path).finish()


def test_the_defaults_are_six_deviations_of_128_steps():
    assert make("skip").last_losses.spike == loops.Spike() == loops.Spike(6.0, 128)
    step, weight = make("skip"), np.zeros(3)
    step.run(iter(batches()), 40)  # too few are known
    assert int(step.optimizer.iterations.numpy()) == 40
    assert np.isnan(step.last_losses.losses.numpy()).sum() == 88 and weight.any() == 0


def test_what_is_left_out_is_in_no_mean_of_the_epoch_and_counted():
    losses, taken, _ = by_numpy(SPIKE.deviations, SPIKE.steps)
    step, told = make(), []

    class Seen(loops.StepsCallback):
        def watch(self):
            return loops.Watch(every=40)

        def on_measured(self, number, measured):
            told.append(measured.scalars["skipped/all"])

    history = loops.train(step, batches(), epochs=1, callbacks=[Seen()])
    assert history.history["loss"] == pytest.approx([losses[taken].mean()], rel=100 * rounding())
    assert told == [pytest.approx((~taken).mean())]
    assert int(step.batches_done.numpy()) == 40


def test_what_layers_wrote_is_undone():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    step = loops.TrainStep(model, "mse", keras.optimizers.SGD(RATE), on_spike=loops.Spike(3.0, 4))
    for first in range(0, 5 * BATCH, BATCH):
        step(X[first : first + BATCH], np.zeros((BATCH, 1)))
    before = model.get_weights()
    step(X[:BATCH], np.full((BATCH, 1), 100.0))
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def own_loop(on_spike, **options):
    """Runs `Update` on a weight with a loss for each call; returns it, with what it took."""
    weight = keras.Variable(np.zeros(1))
    optimizer = options.pop("optimizer", None) or keras.optimizers.SGD(1.0)
    update = loops.Update(optimizer, [weight], on_spike=on_spike, **options)
    return update, weight


@pytest.mark.parametrize("decorate", [lambda f: f, tf.function, loops.replicated])
def test_in_a_loop_of_ones_own(decorate):
    update, weight = own_loop(loops.Spike(2.0, 4))
    call = decorate(lambda loss: update([tf.constant([1.0])], loss))
    losses = [1.0, 1.1, 9.0, 0.9, 1.0, 9.0, 2.0]
    # 9 is above 1.05 + 2 * 0.05, and known from then on: 3 + 2 * 3.5 is above the next 9.
    assert [bool(call(tf.constant(loss))) for loss in losses] == [True, True, False, True, True, True, True]
    assert float(weight.numpy()[0]) == -6.0
    np.testing.assert_allclose(update.last_losses.losses.numpy(), losses[-4:], 1e-6)


def test_an_update_that_is_measured_tells_that_it_was_skipped():
    update, _ = own_loop(loops.Spike(2.0, 4))
    skipped = [float(update.measured([tf.constant([1.0])], loss)["skipped/all"]) for loss in (1.0, 1.0, 2.0)]
    assert skipped == [0.0, 0.0, 1.0]


def test_a_loss_scale_takes_a_spike_for_a_finite_step_and_no_overflow_is_known():
    inner = keras.optimizers.SGD(1.0)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=100)
    update, weight = own_loop(loops.Spike(2.0, 4), optimizer=optimizer)
    one, inf = [tf.constant([8.0])], [tf.constant([np.inf])]
    assert [bool(update(g, loss)) for g, loss in ((one, 1.0), (inf, 1.0), (one, 1.0))] == [True, False, True]
    assert float(optimizer.dynamic_scale) == 4.0 and np.isnan(update.last_losses.losses.numpy()).sum() == 2
    before = int(optimizer.step_counter), float(weight.numpy()[0])
    assert not bool(update(one, 5.0))
    assert (int(optimizer.step_counter), float(weight.numpy()[0])) == (before[0] + 1, before[1])
    assert float(optimizer.dynamic_scale) == 4.0


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip", "ignore"])
def test_a_loss_that_is_not_finite_is_not_known(on_nonfinite):
    update, weight = own_loop(loops.Spike(2.0, 4), on_nonfinite=on_nonfinite)
    gradients = [tf.constant([1.0])]
    if on_nonfinite == "raise":
        with pytest.raises(loops.NonFiniteError, match="the loss is not finite"):
            update(gradients, np.nan)
    else:
        assert bool(update(gradients, np.nan)) == (on_nonfinite == "ignore")
    assert np.isnan(update.last_losses.losses.numpy()).all()
    assert float(weight.numpy()[0]) == (-1.0 if on_nonfinite == "ignore" else 0.0)


def test_a_run_that_resumes_decides_as_one_that_never_stopped(tmp_path):
    whole, parts = make(), make()
    whole.run(iter(batches()), 40)
    parts.run(iter(batches()), 16)
    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save(parts, batches().iterator(0, 16))
    again = make()
    again.run(checkpoint.restore(again, batches()), 24)
    for name, variable in whole.state().items():
        np.testing.assert_array_equal(variable.numpy(), again.state()[name].numpy(), err_msg=name)
    assert "last_losses" in whole.state()


def test_a_run_may_resume_with_another_setting_and_tells_so(tmp_path):
    step, checkpoint = make(None), loops.Checkpoint(tmp_path)
    step.run(iter(batches()), 8)
    checkpoint.save(step)
    later = make()
    with pytest.warns(UserWarning, match="on_spike is .*'deviations': 1.5.* from now on, and was None there"):
        checkpoint.restore(later)
    assert np.isnan(later.last_losses.losses.numpy()).all()
    later.run(batches().iterator(0, 8), 8)
    checkpoint.save(later)
    with pytest.warns(UserWarning, match="on_spike is None from now on"):
        checkpoint.restore(make(None))
    longer = make(loops.Spike(3.0, 9))
    with pytest.warns(UserWarning, match="'steps': 9"):
        checkpoint.restore(longer)
    assert np.isnan(longer.last_losses.losses.numpy()).all()


def test_a_dict_with_an_update_holds_the_losses(tmp_path):
    update, weight = own_loop(loops.Spike(2.0, 4))
    update([tf.constant([1.0])], 3.0)
    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save({"update": update, "weight": weight})
    other, weight = own_loop(loops.Spike(2.0, 4))
    checkpoint.restore({"update": other, "weight": weight})
    assert other.last_losses.losses.numpy()[-1] == 3.0 and float(weight.numpy()[0]) == -1.0
    plain, weight = own_loop(None)
    with pytest.raises(
        ValueError, match="an Update with on_spike None, and the checkpoint .* made with {'dev"
    ):
        checkpoint.restore({"update": plain, "weight": weight})


def test_the_range_test_leaves_the_losses_as_they_were():
    step = make()
    step.run(iter(batches()), 8)
    before = {name: variable.numpy() for name, variable in step.state().items()}
    optim.lr_range_test(step, batches(), 1e-3, 1.0, steps=5)
    for name, variable in step.state().items():
        np.testing.assert_array_equal(variable.numpy(), before[name], err_msg=name)


def test_a_step_that_is_not_asked_to_has_no_condition():
    step = make(None)
    step.run(iter(batches()), 2)
    graph = step.traced.graph.as_graph_def()
    kinds = {n.op for function in graph.library.function for n in function.node_def} | {
        n.op for n in graph.node
    }
    assert (
        not kinds & {"If", "StatelessIf"} and "last_losses" not in step.state() and step.last_losses is None
    )


def test_refusals(monkeypatch):
    for value in ("skp", "raise", True, 6.0):
        with pytest.raises(ValueError, match='`on_spike` must be "skip", a `loops.Spike.*` or None, not'):
            make(value)
    with pytest.raises(ValueError, match="`deviations` must be a finite number above 0"):
        loops.Spike(deviations=0.0)
    with pytest.raises(ValueError, match="`steps` must be at least 2"):
        loops.Spike(steps=1)
    update, _ = own_loop("skip")
    with pytest.raises(ValueError, match="`loss` is None, and `on_spike` decides by it: pass the loss"):
        update([tf.constant([1.0])])
    monkeypatch.setattr(spikes, "is_asynchronous", lambda _: True)
    with pytest.raises(ValueError, match="`on_spike` is .skip. under parameter servers, .* leave it out"):
        make("skip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(None)
