"""`graceful_exit`: signals in loops of one's own, alone and around or within what else defers them."""

import contextlib
import signal
import threading
import time

import keras
import numpy as np
import pytest

from gradloop import loops, models, optim
from tests.loops.training.ten_examples import batches

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def plain_handlers():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it
    yield
    left = [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGINT, before)
    assert left == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]


@pytest.fixture
def step():
    return loops.TrainStep(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), "mse", "sgd")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_loop_saves_and_goes_on_elsewhere(step, number, tmp_path):
    checkpoint = loops.Checkpoint(tmp_path)
    iterator = checkpoint.restore(step, batches())
    with loops.graceful_exit() as wanted:
        for batch in range(3):
            step.run(iterator, 1)
            assert not wanted()
            if batch == 1:
                signal.raise_signal(number)
                assert wanted() and wanted()
                checkpoint.save(step, iterator)
                break
    assert wanted()
    assert checkpoint.restore(step, batches()).position == 2


def test_a_program_ends_with_the_status():
    with pytest.raises(SystemExit) as caught, loops.graceful_exit() as wanted:
        signal.raise_signal(signal.SIGTERM)
        if wanted():
            raise loops.Preempted
    assert caught.value.code == 75


def test_what_nobody_asked_for_is_not_lost():
    with pytest.raises(KeyboardInterrupt), loops.graceful_exit() as wanted:
        assert not wanted()
        signal.raise_signal(signal.SIGINT)


def test_a_handler_of_the_programs_own_waits_likewise():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    for asks in (True, False):
        with loops.graceful_exit() as wanted:
            signal.raise_signal(signal.SIGTERM)
            assert not came and (not asks or wanted())
    assert came == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, before)


def test_a_second_signal_does_not_wait():
    with pytest.raises(KeyboardInterrupt), loops.graceful_exit() as wanted:
        signal.raise_signal(signal.SIGTERM)
        assert wanted()
        time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("It waited.")


def test_chosen_signals():
    with pytest.raises(KeyboardInterrupt), loops.graceful_exit(signals=[signal.SIGTERM]) as wanted:
        signal.raise_signal(signal.SIGINT)
    assert not wanted()


@pytest.mark.parametrize(
    "signals, error, message",
    [
        (signal.SIGTERM, TypeError, "`signals` must be a list of signals, got .*: pass numbers such as "),
        ("SIGTERM", TypeError, "`signals` must be a list of signals, got 'SIGTERM': pass numbers"),
        (
            [signal.SIGKILL],
            ValueError,
            "`signals` holds .*SIGKILL.*no signal that a program can handle: pass",
        ),
        (["SIGTERM"], ValueError, "`signals` holds 'SIGTERM', which is no signal"),
    ],
)
def test_signals_that_are_none(signals, error, message):
    with pytest.raises(error, match=message), loops.graceful_exit(signals=signals):
        pass


def test_a_strategy_that_is_none():
    with pytest.raises(TypeError, match="`strategy` must be one, such as .*, or None, got 'multiworker'"):
        with loops.graceful_exit(strategy="multiworker"):
            pass


def test_in_another_thread_nothing_is_installed():
    found = []

    def run():
        with loops.graceful_exit() as wanted:
            found.extend([signal.getsignal(signal.SIGTERM), wanted()])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL, False]


def test_one_in_another():
    with loops.graceful_exit() as outer:
        with loops.graceful_exit() as inner:
            signal.raise_signal(signal.SIGTERM)
            assert inner() and outer()
        with loops.graceful_exit() as late:
            assert late()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("saves", [True, False])
def test_a_run_in_a_block_ends(step, number, saves, tmp_path):
    """With a checkpoint as it does by itself; without one as by `Ctrl-C`, and the block knows why."""
    send = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: signal.raise_signal(number))
    run = {"epochs": 2, "callbacks": [send], "checkpoint": tmp_path if saves else None}
    with pytest.raises(loops.Preempted) if saves and number != signal.SIGINT else contextlib.nullcontext():
        with loops.graceful_exit() as wanted:
            loops.train(step, batches(), **run)
            assert wanted()
    assert int(step.batches_done.numpy()) == 1
    assert saves == (loops.Checkpoint(tmp_path).newest is not None)


def test_in_a_callback_it_tells_of_the_runs_signals(step, tmp_path):
    told = []

    def loop(epoch, logs):
        with loops.graceful_exit() as wanted:
            told.append(wanted())
            signal.raise_signal(signal.SIGTERM)
            told.append(wanted())

    run = {"callbacks": [keras.callbacks.LambdaCallback(on_epoch_end=loop)], "checkpoint": tmp_path}
    with pytest.raises(loops.Preempted):
        loops.train(step, batches(), epochs=2, **run)
    assert told == [False, True]


@pytest.mark.parametrize(
    "number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, loops.Preempted)]
)
def test_a_range_test_ends_between_two_batches(step, number, error):
    before, runs, run = step.model.get_weights(), [], step.run

    def counted(iterator, steps):
        runs.append(steps)
        if len(runs) == 2:
            signal.raise_signal(number)
        return run(iterator, steps)

    step.run = counted
    with pytest.raises(error), loops.graceful_exit():
        optim.lr_range_test(step, batches())
    assert len(runs) == 2
    for one, other in zip(before, step.model.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_a_feature_cache_ends_between_two_batches_and_is_computed_again(tmp_path, monkeypatch):
    layers = [keras.layers.Dense(3, name="body"), keras.layers.Dense(2, name="head")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    x = np.random.default_rng(0).random((8, 4), dtype="float32")
    written = []

    def sends(arrays):
        def write(batch):
            written.append(len(batch[0]))
            signal.raise_signal(signal.SIGTERM)

        return write

    monkeypatch.setattr("gradloop.models.feature_cache.files.batch_writer", sends)
    with pytest.raises(loops.Preempted), loops.graceful_exit():
        models.cache_frozen(model, "head", x, path=tmp_path, batch_size=2)
    assert written == [2]
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="not whole: they are computed again"):
        cached = models.cache_frozen(model, "head", x, path=tmp_path, batch_size=2)
    np.testing.assert_allclose(cached.x, layers[0](x).numpy(), rtol=1e-6)
