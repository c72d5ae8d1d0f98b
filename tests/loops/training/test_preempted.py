"""SIGTERM and its like end a run, which is saved: it goes on to the numbers of one that nothing ended."""

import signal
import sys
import threading
from pathlib import Path

import keras
import pytest

from gradloop import loops
from gradloop.loops.checkpoint.saved_step import SavedStep, Snapshot
from tests.loops.training.preempted_runs import PHASES, Sender, Sent
from tests.loops.training.resumed_runs import Noted, assert_same_run, result
from tests.loops.training.ten_examples import batches
from tests.programs import Program

PROGRAM = Path(__file__).parent / "programs" / "preempted.py"


@pytest.fixture(scope="module")
def sent():
    """The case, a step for all runs, how to begin one anew, and the run that nothing ends."""
    case = Sent()
    step, noted = case.step(), Noted()
    beginning = Snapshot(SavedStep(step))
    history = case.train(step, Sender(None), noted)
    return case, step, beginning, result(step, history, noted)


@pytest.mark.parametrize(
    "phase, number", [*((phase, signal.SIGTERM) for phase in PHASES), ("step", signal.SIGUSR1)]
)
def test_each_phase(sent, phase, number, tmp_path, capsys):
    case, step, beginning, straight = sent
    if phase == "first trace":
        step = case.step()
        beginning = Snapshot(SavedStep(step))
    beginning.put_back()
    noted, sender = Noted(), Sender(phase, numbers=(number,))
    with pytest.raises(loops.Preempted) as caught:
        case.train(step, sender, noted, folder=tmp_path)
    assert not sender.numbers, "sent"
    end = caught.value
    assert (end.code, end.signal, end.epoch) == (75, number, 0 if phase == "first trace" else 2)
    assert end.step == int(step.batches_done.numpy()) == max(noted.losses)
    assert end.checkpoint == loops.Checkpoint(tmp_path).newest
    told = capsys.readouterr()
    assert told.err == f"{end}\n" and "Traceback" not in told.err
    assert signal.getsignal(number) == signal.SIG_DFL
    beginning.put_back()
    history = case.train(step, Sender(None), noted, folder=tmp_path)
    assert_same_run(result(step, history, noted), straight)


class Every(keras.callbacks.Callback):
    """Notes the hooks that end things, and acts at the end of a batch."""

    def __init__(self, *actions):
        super().__init__()
        self.actions, self.seen = list(actions), []

    def on_train_batch_end(self, batch, logs=None):
        if self.actions:
            self.actions.pop(0)()

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append("epoch")

    def on_train_end(self, logs=None):
        self.seen.append("end")


@pytest.fixture
def step():
    return loops.TrainStep(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), "mse", "sgd")


def sends(number):
    return lambda: signal.raise_signal(number)


def test_callbacks_end_as_on_an_interrupt(step, tmp_path):
    callback = Every(lambda: None, sends(signal.SIGTERM))
    with pytest.raises(loops.Preempted) as caught:
        loops.train(step, batches(), epochs=3, callbacks=[callback], checkpoint=tmp_path)
    assert callback.seen == ["end"] and caught.value.step == 2
    assert step.model.stop_training


@pytest.mark.parametrize(
    "number, error", [(signal.SIGTERM, loops.Preempted), (signal.SIGINT, KeyboardInterrupt)]
)
def test_after_the_last_step_the_program_ends_too(step, number, error, tmp_path):
    class AtEnd(Every):
        def on_train_end(self, logs=None):
            signal.raise_signal(number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it
    with pytest.raises(error):
        loops.train(step, batches(), epochs=1, callbacks=[AtEnd()], checkpoint=tmp_path)
    signal.signal(signal.SIGINT, before)
    assert loops.Checkpoint(tmp_path).newest.endswith("checkpoint-1")
    assert loops.train(step, batches(), epochs=1, checkpoint=tmp_path).epoch == [0]


def test_before_the_first_step_there_is_nothing_to_save(step, tmp_path, capsys):
    class Begin(Every):
        def on_train_begin(self, logs=None):
            signal.raise_signal(signal.SIGTERM)

    callback = Begin()
    with pytest.raises(loops.Preempted) as caught:
        loops.train(step, batches(), epochs=1, callbacks=[callback], checkpoint=tmp_path)
    assert (caught.value.step, caught.value.epoch, caught.value.checkpoint) == (0, 0, None)
    assert step.traces == 0 and callback.seen == ["end"]
    assert capsys.readouterr().err.endswith("the same call begins anew, as nothing was saved.\n")


def test_without_a_checkpoint_nothing_is_installed(step):
    found = []
    callback = Every(lambda: found.append(signal.getsignal(signal.SIGTERM)))
    loops.train(step, batches(), epochs=1, callbacks=[callback])
    assert found == [signal.SIG_DFL]


@pytest.mark.parametrize("ends", [True, False])
def test_a_handler_of_the_programs_own_is_called_after_the_steps(step, ends, tmp_path):
    """If it ends the program, the run is saved before."""
    came = []

    def handler(number, frame):
        came.append(int(step.batches_done.numpy()))
        if ends:
            sys.exit(3)

    callback = Every(lambda: None, sends(signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, handler)
    try:
        loops.train(step, batches(), epochs=1, callbacks=[callback], checkpoint=tmp_path)
    except SystemExit as end:
        assert ends and end.code == 3
        assert loops.Checkpoint(tmp_path).newest.endswith("checkpoint-1")
    finally:
        assert signal.signal(signal.SIGTERM, before) is handler
    assert came == [2] and callback.seen == (["end"] if ends else ["epoch", "end"])


def test_in_another_thread_signals_are_the_programs(step, tmp_path):
    found = []
    callback = Every(lambda: found.append(signal.getsignal(signal.SIGTERM)))
    run = {"epochs": 1, "callbacks": [callback], "checkpoint": tmp_path}
    thread = threading.Thread(target=loops.train, args=(step, batches()), kwargs=run)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL] and callback.seen == ["epoch", "end"]


def test_an_error_while_a_run_ends_is_seen(step, tmp_path):
    class Fails(Every):
        def on_train_end(self, logs=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run = {"callbacks": [Fails(sends(signal.SIGTERM))], "checkpoint": tmp_path}
        loops.train(step, batches(), epochs=1, **run)
    assert loops.Checkpoint(tmp_path).newest


def test_the_time_limit_ends_a_run(step, tmp_path, capsys):
    checkpoint = loops.Checkpoint(tmp_path, time_limit="1s", verbose=0)
    checkpoint.time_limit = 1e-3
    with pytest.raises(loops.Preempted) as caught:
        loops.train(step, batches(), epochs=10**6, callbacks=[Every()], checkpoint=checkpoint)
    assert caught.value.signal is None and caught.value.checkpoint == checkpoint.newest
    assert capsys.readouterr().err.startswith("The time limit ended training after step ")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_run_that_is_done_is_no_matter_of_time(step, tmp_path):
    done = loops.train(step, batches(), epochs=1, checkpoint=tmp_path).history
    checkpoint = loops.Checkpoint(tmp_path, time_limit=1e-9)
    assert loops.train(step, batches(), epochs=1, checkpoint=checkpoint).history == done


def test_a_program_ends_with_the_status_and_one_line(tmp_path):
    program = Program(PROGRAM, tmp_path, "step", 0.0, int(signal.SIGTERM), folder=tmp_path)
    program.finish(status=75)
    told = program.stderr.read_text()
    assert told.count("SIGTERM ended training after step ") == 1 and "Traceback" not in told


@pytest.mark.release
@pytest.mark.parametrize("numbers", [[signal.SIGTERM] * 2, [signal.SIGINT, signal.SIGTERM]])
def test_a_second_signal_ends_a_program_at_once(numbers, tmp_path):
    program = Program(PROGRAM, tmp_path, "saving", 0.0, *map(int, numbers), folder=tmp_path)
    program.finish(status=-signal.SIGTERM)


@pytest.mark.long
@pytest.mark.parametrize("phase", PHASES)
def test_twenty_of_twenty(phase, tmp_path):
    """At moments that are spread over the phase."""
    for trial in range(20):
        folder = tmp_path / str(trial)
        folder.mkdir()
        number = (signal.SIGTERM, signal.SIGUSR1)[trial % 2]
        Program(PROGRAM, folder, phase, 0.002 * trial, int(number), folder=folder).finish(status=75)
    folders = sorted(tmp_path.iterdir())
    assert Program(PROGRAM, *folders, folder=tmp_path).finish().count("same\n") == 20
