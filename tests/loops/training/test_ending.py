"""`RunEnding`: when it ends a run, and how often workers ask each other."""

import signal
import threading

import pytest

from gradloop import loops
from gradloop.loops.training.ending import RunEnding


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def checkpoint(limit=None):
    return loops.Checkpoint("runs", time_limit=limit)


def test_the_time_limit_counts_from_its_making():
    clock = Clock()
    ending = RunEnding(checkpoint("90s"), None, clock)
    clock.now += 89.9
    ending.check()
    assert ending.requested() is None and not ending.agreed
    clock.now += 0.1
    with pytest.raises(loops.Preempted) as caught:
        ending.check()
    assert caught.value.signal is None and ending.agreed


def test_a_run_that_is_complete_ends_by_a_signal_but_not_by_the_clock():
    clock = Clock()
    ending = RunEnding(checkpoint(1.0), None, clock)
    clock.now += 2.0
    ending.close(None)
    with pytest.raises(loops.Preempted), ending.signals.deferred():
        signal.raise_signal(signal.SIGTERM)
        ending.close(None)
    ending.close(KeyboardInterrupt())
    with pytest.raises(SystemExit, match="3"):
        ending.close(SystemExit(3))


class Workers:
    """Two workers in threads: each waits for the other where they take a mean."""

    def __init__(self):
        self.barrier, self.given, self.means = threading.Barrier(2, timeout=5), [0.0, 0.0], 0

    def mean_of(self, index):
        def mean(number):
            self.given[index] = number
            self.barrier.wait()
            value = sum(self.given) / 2
            if self.barrier.wait() == 0:
                self.means += 1
            return value

        return mean

    def run(self, work):
        """Runs `work(index, mean)` in both; returns what they return."""
        found = [None, None]

        def one(index):
            found[index] = work(index, self.mean_of(index))

        threads = [threading.Thread(target=one, args=[index]) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, None])
def test_workers_end_together(number, monkeypatch):
    """Only the second is sent the signal, in its tenth call; None: only its time is up then."""

    def work(index, mean):
        clock = Clock()
        ending = RunEnding(checkpoint(50.0 if index or number else 1e6), mean, clock)
        for call in range(100):
            clock.now += 0.2
            if index and call == 10:
                if number is None:
                    clock.now += 100.0
                else:
                    monkeypatch.setattr(ending.signals, "ending", lambda: number)
            try:
                ending.check()
            except BaseException as error:  # noqa: B036  # it is what the test looks at
                return call, type(error), getattr(error, "signal", None), ending.agreed
        return None

    error = KeyboardInterrupt if number == signal.SIGINT else loops.Preempted
    expected = (10, error, None if number == signal.SIGINT else number, True)
    assert Workers().run(work) == [expected, expected]


@pytest.mark.parametrize("seconds, least, most", [(1e-3, 6, 12), (1.0, 1000, 1000)])
def test_workers_do_not_ask_each_other_after_each_short_call(seconds, least, most):
    """About five times a second."""

    def work(index, mean):
        clock = Clock()
        ending = RunEnding(checkpoint(), mean, clock)
        for _ in range(1000):
            clock.now += seconds * (1 + index)  # one is slower
            ending.check()

    workers = Workers()
    workers.run(work)
    assert least <= workers.means <= most


def test_workers_that_save_nothing_do_not_wait_for_each_other():
    ending = RunEnding(None, lambda number: pytest.fail("asked"))
    ending.check()
