"""`on_nonfinite="restore"`: back to the last checkpoint, on at lower rates; the numbers are NumPy's."""

import contextlib
import csv
import functools
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.checkpoint.tensor_file import TensorFile
from gradloop.loops.distribute.scope import scope_of
from tests.loops.training.resumed_runs import Cut
from tests.loops.training.runs_that_go_back import (
    EPOCHS,
    K_CALLBACKS,
    K,
    X,
    Y,
    by_numpy,
    data,
    grouped,
    make,
    of_keras,
    plain,
    scaled,
    train,
)
from tests.programs import Program
from tests.tolerance import rounding
from tests.values import assert_same, numbers


def check(folder, optimizer=None, strategy=None):
    """A run that goes back has the weights, losses and counts of NumPy."""
    weight, losses, cuts, failed = by_numpy()
    assert 1 < cuts[-1] < 3 and failed, "what is tried"
    with scope_of(strategy):
        step = make(optimizer)
    history = train(step, folder).history
    np.testing.assert_allclose(step.model.get_weights()[0].item(), weight, 1e3 * rounding())
    np.testing.assert_allclose(history["loss"], losses, 1e3 * rounding())
    assert history["rate_cuts"] == cuts
    assert int(step.batches_done.numpy()) == 8 * EPOCHS
    return step


@pytest.mark.numbers
@pytest.mark.parametrize(
    "optimizer",
    [plain, grouped, *(pytest.param(make, marks=pytest.mark.release) for make in (of_keras, scaled))],
)
def test_the_numbers_are_those_of_numpy(optimizer, tmp_path, capfd):
    step = check(tmp_path, optimizer)
    told = [line for line in capfd.readouterr().err.splitlines() if "goes back" in line]
    assert len(told) == int(step.rate_cuts.count.numpy())
    assert "is not finite (NaN or infinity). Training goes back to " in told[0]
    assert "at 0.5 times the learning rates that are set (1 of 3 times)" in told[0]


@pytest.mark.numbers
@pytest.mark.release  # `test_spikes.py` has two replicas in every run
def test_on_two_replicas(tmp_path):
    Program(Path(__file__).parent / "programs" / "going_back.py", tmp_path, folder=tmp_path).finish()


class Noted(loops.StepsCallback):
    """What a run tells a callback, as text."""

    def __init__(self):
        super().__init__()
        self.told = []

    def on_train_begin(self, logs=None):
        self.told.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.told.append(f"epoch {epoch}")

    def on_epoch_resumed(self, batches):
        self.told.append(f"from {batches}")

    def on_train_failed(self, logs=None):
        self.told.append("failed")

    def on_train_end(self, logs=None):
        self.told.append("end")


def test_a_run_that_is_killed_and_resumes_is_one_that_was_not(tmp_path):
    whole, noted, board = make(), Noted(), loops.TensorBoard(tmp_path / "logs", graph=False)
    history = train(whole, tmp_path / "whole", noted, board).history
    again = ["begin", "epoch 1", "from 4"]
    assert noted.told == [
        "begin",
        "epoch 0",
        "epoch 1",
        "failed",
        *again,
        "failed",
        *again,
        "epoch 2",
        "epoch 3",
        "end",
    ]
    assert_each_step_once(tmp_path / "logs")
    for at in (13, 20):  # before it goes back for the second time, and after
        folder = tmp_path / str(at)
        with contextlib.suppress(OSError):
            train(make(), folder, Cut(at))
        step = make()
        assert train(step, folder).history == history
        assert_same(numbers(step.state()), numbers(whole.state()))


def assert_each_step_once(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "steps"), {"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("step/loss")] == list(range(1, 8 * EPOCHS + 1))
    rates = {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("rate/all")}
    assert rates == pytest.approx({10: 0.8, 20: 0.2, 30: 0.2}), "those that hold"


def test_it_goes_back_so_many_times_and_to_no_run_before(tmp_path):
    with pytest.raises(ArithmeticError):
        by_numpy(times=1)
    train(make(None, on_nonfinite="raise"), tmp_path, epochs=1)  # another run's
    step = make(None, on_nonfinite=loops.Restore(times=1))
    with pytest.raises(
        loops.NonFiniteError, match="went back to a checkpoint 1 times before.* allows 1. The l"
    ) as e:
        train(step, tmp_path, resume=False)
    newest = loops.Checkpoint(tmp_path).newest
    assert repr(newest) in str(e.value) and (e.value.variable, e.value.step) == (None, 14)
    assert int(step.batches_done.numpy()) == 13, "the weights are those from before the step"
    # The count is of the checkpoint's: the same happens again, with more of them it goes on.
    more = make(None, on_nonfinite=loops.Restore(times=2))
    with pytest.warns(UserWarning, match="on_nonfinite is .*'times': 2"):
        assert train(more, tmp_path).history["rate_cuts"] == by_numpy()[2]


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_begin"])
def test_not_by_another_step_in_a_callback(hook, tmp_path):
    probe, step = make(None, on_nonfinite="raise"), make()

    def fit_probe(number, logs):
        probe(np.full((2, 1), np.nan), np.ones((2, 1)))

    with pytest.raises(loops.NonFiniteError):
        train(step, tmp_path, keras.callbacks.LambdaCallback(**{hook: fit_probe}))
    assert int(step.rate_cuts.count.numpy()) == 0


@pytest.mark.parametrize("kind", ["arrays", "dataset", "dataset, batch by batch"])
def test_before_the_first_checkpoint_it_goes_back_to_the_beginning(kind, tmp_path):
    source, callbacks = data(), []
    if kind != "arrays":
        source = tf.data.Dataset.from_tensor_slices((X[:, None], Y[:, None])).batch(2)
    if "by batch" in kind:  # whose end only reading tells
        source = source.filter(lambda x, y: True)
        callbacks = [keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: None)]
    step = make()
    step.optimizer.learning_rate = 1.5  # too high from the third step on
    history = loops.train(step, source, epochs=2, callbacks=callbacks, checkpoint=tmp_path).history
    assert history["rate_cuts"][0] >= 1.0 and int(step.batches_done.numpy()) == 16


def test_a_signal_that_comes_as_it_goes_back_loses_no_cut(tmp_path):
    class Ends(loops.StepsCallback):
        def steps_allowed(self, done):
            return 1

        def on_train_failed(self, logs=None):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(loops.Preempted) as caught:
        train(make(), tmp_path, Ends())
    assert TensorFile(f"{caught.value.checkpoint}/state").values["rate_cuts"] == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_it_does_not_go_on_where_a_callback_could_not_end(tmp_path):
    class Fails(loops.StepsCallback):
        def on_train_failed(self, logs=None):
            raise OSError("no room for the logs")

    with pytest.raises(loops.NonFiniteError) as caught:
        train(make(), tmp_path, Fails())
    assert any("OSError came as well: no room for the logs" in note for note in caught.value.__notes__)


def test_what_the_run_has_unfrozen_since_is_told_as_no_other_setting(tmp_path):
    dense = functools.partial(keras.layers.Dense, 1, use_bias=False)
    model = keras.Sequential([keras.Input((1,)), dense(name="low"), dense(name="head")])
    plan = optim.partition(model, {"low": optim.Group("low", frozen=True), "head": "head"})
    optimizer = optim.GroupedOptimizer(K.SGD(0.01), plan)
    step = loops.TrainStep(model, "mse", optimizer, on_nonfinite=loops.Restore(times=1))
    x = X[:, None].copy()
    x[13] = np.nan  # in the second epoch
    with pytest.raises(loops.NonFiniteError, match="went back to a checkpoint 1 times"):
        loops.train(
            step,
            loops.Batches(x, Y[:, None], 2, shuffle=False),
            epochs=2,
            steps_per_epoch=4,
            callbacks=[loops.Unfreeze({1: "low"})],
            checkpoint=tmp_path,
        )


def test_a_csv_file_keeps_its_rows(tmp_path):
    """Where a run goes back, and where it resumes; a new one begins it anew, as in `fit`."""
    logger = K_CALLBACKS.CSVLogger(tmp_path / "log.csv")

    def rows():
        with open(tmp_path / "log.csv") as file:
            return [(int(row["epoch"]), float(row["loss"])) for row in csv.DictReader(file)]

    for epochs in (2, 2, EPOCHS):
        losses = train(make(), tmp_path / "run", logger, epochs=epochs).history["loss"]
        assert rows() == list(enumerate(losses))
    losses = train(make(), tmp_path / "run", logger, epochs=2, resume=False).history["loss"]
    assert rows() == list(enumerate(losses)) and not logger.append


def test_a_step_that_does_not_restore_tells_that_the_cuts_are_gone(tmp_path):
    train(make(), tmp_path)
    with pytest.warns(
        UserWarning, match="learning rates are not cut any more, and were there 2 times; .*on_nonf"
    ):
        loops.Checkpoint(tmp_path).restore(make(None, on_nonfinite="raise"))
    train(make(None, on_nonfinite="raise"), tmp_path / "raise", epochs=1)
    step = make()
    with pytest.warns(UserWarning, match="on_nonfinite is 'restore' from now on, and was 'raise' there"):
        loops.Checkpoint(tmp_path / "raise").restore(step)
    assert int(step.rate_cuts.count.numpy()) == 0


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match="`checkpoint` is None, and `step` has on_nonfinite='restore', .* pass the"
    ):
        loops.train(make(), data(), epochs=1)
    weight = keras.Variable([1.0])
    for given in ("restore", loops.Restore()):
        with pytest.raises(
            ValueError, match="`on_nonfinite` is .*, and an `Update` knows of no checkpoint: make"
        ):
            loops.Update(K.SGD(0.1), [weight], on_nonfinite=given)
    with pytest.raises(ValueError, match="`factor` is 1, which makes no rate lower: pass one below 1"):
        loops.Restore(factor=1.0)
    with pytest.raises(ValueError, match="`times` must be at least 1"):
        loops.Restore(times=0)
    monkeypatch.setattr("gradloop.loops.update.restore.has_other_workers", lambda _: True)
    with pytest.raises(
        ValueError, match="`on_nonfinite` is 'restore' on several workers, .* with a lower rate"
    ):
        make()


@pytest.mark.numbers
@pytest.mark.parametrize("source", [pytest.param("arrays", marks=pytest.mark.release), "dataset"])
def test_back_at_the_beginning_it_is_a_run_at_the_lower_rate(source, tmp_path):
    def run(rate, folder, **options):
        optimizer = lambda _: K.SGD(rate, momentum=0.1, use_ema=True, ema_momentum=0.8)  # noqa: E731
        step = make(optimizer, accumulate=2, **options)
        dataset = tf.data.Dataset.from_tensor_slices((X[:, None], Y[:, None])).batch(2)
        callbacks = [K_CALLBACKS.SwapEMAWeights(True), K_CALLBACKS.EarlyStopping("loss", patience=3)]
        history = loops.train(
            step,
            data() if source == "arrays" else dataset,
            epochs=4,
            steps_per_epoch=5,
            callbacks=callbacks,
            checkpoint=folder,
        )
        return step, history.history

    back, history = run(0.8, tmp_path / "back", on_nonfinite=loops.Restore(factor=0.125))
    other, wanted = run(0.1, tmp_path / "other", on_nonfinite="raise")
    assert history.pop("rate_cuts") == [1.0] * 4
    assert history["loss"] == pytest.approx(wanted["loss"], rel=1e3 * rounding())
    for one, two in zip(back.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, 1e3 * rounding())
