"""`DeferredSignals`: which signals wait, for how long, and what they do then."""

import signal
import threading
import time

import pytest

from gradloop.optim.common.preempted import Preempted
from gradloop.optim.common.signals import ENDING, DeferredSignals, stoppable

ALL = (signal.default_int_handler, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def plain_handlers():
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it
    yield
    left = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert left == before | {signal.SIGINT: left[signal.SIGINT]}  # whatever happened in the test


def test_it_waits_until_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt), DeferredSignals().deferred():
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", ENDING)
def test_who_asks_sees_to_it(number):
    signals = DeferredSignals(ends=ALL)
    with signals.deferred():
        assert signals.ending() is None
        signal.raise_signal(number)
        assert signals.ending() == signals.ending() == number


def test_those_that_nobody_handles_are_left_alone_unless_named():
    with DeferredSignals().deferred():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals = DeferredSignals(ends=ALL)
    with signals.deferred():
        signal.raise_signal(signal.SIGINT)
        assert signals.ending() is None and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_one_does_not_wait(first):
    signals, done = DeferredSignals(ends=ALL), []
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        signal.raise_signal(first)
        # Now the operating system ends the program at the same signal, also while Python cannot.
        assert first == signal.SIGINT or signal.getsignal(first) == signal.SIG_DFL
        time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert not done


def test_two_of_one_moment_are_one():
    """As when both came while the device ran. What ends the program counts for more than `Ctrl-C`."""
    signals = DeferredSignals(ends=ALL)
    with signals.deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert signals.ending() == signal.SIGTERM


def test_an_error_in_the_body_comes_through():
    with pytest.raises(ZeroDivisionError), DeferredSignals(ends=ALL).deferred():
        signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError


def test_handlers_of_the_programs_own():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    signals = DeferredSignals(ends=ALL)
    with signals.deferred():
        for _ in range(2):  # each time anew
            signal.raise_signal(signal.SIGTERM)
            assert signals.ending() is None and not came
            signals.call_own()
            assert came == [signal.SIGTERM]
            came.clear()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # the second does not wait
        assert came == [signal.SIGTERM]
    assert came == [signal.SIGTERM] * 2
    signal.signal(signal.SIGTERM, before)


def test_handlers_that_somebody_has_set_meanwhile_are_left():
    def other(number, frame):
        pass

    with DeferredSignals(ends=ALL).deferred():
        signal.signal(signal.SIGTERM, other)
    assert signal.getsignal(signal.SIGTERM) is other
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_forked_process_ends_as_it_would_have(monkeypatch):
    """Else a pool of processes that is made in a callback could not be terminated."""
    with pytest.raises(KeyboardInterrupt), DeferredSignals(ends=ALL).deferred():
        monkeypatch.setattr("os.getpid", lambda: -1)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("It waited.")


def test_another_thread_installs_nothing():
    found = []

    def run():
        with DeferredSignals(ends=ALL).deferred():
            found.append(signal.getsignal(signal.SIGTERM))
            found.extend(stoppable([1]))

    thread = threading.Thread(target=run)
    with DeferredSignals(ends=ALL).deferred():
        before = signal.getsignal(signal.SIGTERM)
        thread.start()
        thread.join()
        assert found == [before, 1]


def test_within_another_it_is_the_others():
    outer, inner = DeferredSignals(ends=ALL), DeferredSignals()
    with outer.deferred():
        with inner.deferred():
            signal.raise_signal(signal.SIGINT)
            assert inner.ending() == signal.SIGINT
        with DeferredSignals(ends=ALL).deferred():
            pass  # one that began when the signal was there has none of its own
        assert outer.ending() == signal.SIGINT


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Preempted)])
def test_a_long_loop_ends_between_two_items(number, error):
    seen = []
    with pytest.raises(error) as caught, DeferredSignals(ends=ALL).deferred():
        for item in stoppable(range(9)):
            seen.append(item)
            if item == 3:
                signal.raise_signal(number)
    assert seen == [0, 1, 2, 3]
    assert getattr(caught.value, "signal", number) == number
    assert list(stoppable("ab")) == ["a", "b"]


def test_a_generator_that_is_closed_elsewhere_leaves_no_signal_waiting():
    def loop():
        with DeferredSignals(ends=ALL).deferred():
            yield

    generator = loop()
    next(generator)
    thread = threading.Thread(target=generator.close)
    thread.start()
    thread.join()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
