"""A run that `Ctrl-C` ended, wherever it was, goes on to the numbers of one that was not ended."""

import contextlib
import signal

import keras
import pytest

from gradloop import loops
from gradloop.loops.checkpoint.tensor_file import TensorFile
from tests.loops.training.resumed_runs import (
    EPOCHS,
    Averages,
    Cut,
    Dataset,
    Everything,
    Generated,
    Hooks,
    Long,
    LongGenerated,
    Noted,
    Rates,
    Swaps,
    assert_same_run,
    cases,
    result,
    straight,
)


@cases(Everything, LongGenerated, release=[Hooks], long=[Averages, Dataset, Swaps])
def test_an_interrupted_run_goes_on_at_the_very_step(make, tmp_path):
    case = make()
    noted = Noted()
    for number in (3, 10, None):
        step = case.step()
        stop = Cut(*([] if number is None else [number]), error=KeyboardInterrupt)
        checkpoint = loops.Checkpoint(tmp_path, verbose=0)
        history = case.train(step, noted, stop, checkpoint=checkpoint)
        if number is not None:
            note = TensorFile(f"{checkpoint.newest}/state").metadata["run"]
            assert note["batch"] + note["epoch"] * (case.steps_per_epoch or 5) == number
    assert_same_run(result(step, history, noted), straight(make))


class Interrupt(keras.callbacks.Callback):
    """`Ctrl-C` in a hook of an epoch, or in its validation."""

    def __init__(self, hook, epoch):
        super().__init__()
        self.epoch, self.wanted = -1, epoch
        wrapped = getattr(self, hook)

        def interrupt(*arguments, **options):
            wrapped(*arguments, **options)
            if self.epoch == self.wanted:
                raise KeyboardInterrupt

        setattr(self, hook, interrupt)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


HOOKS = ("on_epoch_begin", "on_test_begin", "on_epoch_end")
# Each hook, and each case, in some of them.
ALWAYS = [(Rates, "on_epoch_begin"), (Rates, "on_epoch_end"), (Swaps, "on_test_begin")]


@pytest.mark.parametrize(
    "make, hook",
    [
        pytest.param(make, hook, marks=() if (make, hook) in ALWAYS else pytest.mark.long)
        for make in (Rates, Swaps)
        for hook in HOOKS
    ],
)
def test_an_interrupt_between_the_steps_of_epochs(make, hook, tmp_path):
    """Hooks that have run do not run again on top of what they did."""
    case, noted = make(), Noted()
    for epoch in (1, 3, None):
        step = case.step()
        more = [noted] if epoch is None else [noted, Interrupt(hook, epoch)]
        checkpoint = loops.Checkpoint(tmp_path, verbose=0)
        history = case.train(step, *more, checkpoint=checkpoint)
    assert_same_run(result(step, history, noted), straight(make))


def test_the_data_is_left_where_it_would_have_been(tmp_path):
    case = Rates()
    source = case.data()
    case.data = lambda: source
    case.train(case.step(), Interrupt("on_test_begin", EPOCHS - 1), checkpoint=tmp_path)
    source.epoch = 0
    case.train(case.step(), checkpoint=tmp_path)
    assert source.epoch == EPOCHS


@cases(LongGenerated, release=[Long], long=[Dataset])
def test_an_interrupt_in_a_call_of_the_device(make, tmp_path, monkeypatch):
    case, noted, left = make(), Noted(), [2, 3]
    calls = []

    @contextlib.contextmanager
    def around_a_call(one_thread):
        yield
        calls.append(one_thread)
        if left and len(calls) == left[0]:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("gradloop.loops.device.device_loop.executor", around_a_call)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    while True:
        step, ends = case.step(), not left
        history = case.train(step, noted, checkpoint=loops.Checkpoint(tmp_path, verbose=0))
        if ends:
            break
        left.pop(0)
        calls.clear()
    signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert_same_run(result(step, history, noted), straight(make))


def test_an_interrupt_with_a_batch_read_that_has_not_run(tmp_path):
    """Of data whose length nobody knows, a batch is read before its hook runs."""
    begun = []

    def begin(batch, logs):
        begun.append(batch)
        if len(begun) == 7:
            raise KeyboardInterrupt

    case, noted = Generated(), Noted()
    hook = keras.callbacks.LambdaCallback(on_train_batch_begin=begin)
    case.train(case.step(), noted, hook, checkpoint=tmp_path)
    step = case.step()
    history = case.train(step, noted, hook, checkpoint=tmp_path)
    assert len(begun) == 4 * 5 + 1
    assert_same_run(result(step, history, noted), straight(Generated, hook))
