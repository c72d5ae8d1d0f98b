"""Pace: calls of about a fifth of a second, whatever a step takes."""

import pytest

from gradloop.loops.device_loop import CAPACITY
from gradloop.loops.pace import SECONDS_A_CALL, Pace


class Clock:
    """Time that passes only when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def _call(pace, clock, seconds_a_step, first=0.0, steps=None):
    ran = pace.steps if steps is None else steps
    with pace.timing() as tell:
        clock.now += ran * seconds_a_step + first
        tell(ran)
    return ran


def _calls(seconds_a_step, count=12):
    clock = Clock()
    pace = Pace(clock=clock)
    return [_call(pace, clock, seconds_a_step, 30.0 if call == 0 else 0.0) for call in range(count)]


@pytest.mark.parametrize("seconds_a_step", [1e-3, 1.7e-3, 0.01, 0.05])
def test_settles_at_the_length_of_a_call(seconds_a_step):
    calls = _calls(seconds_a_step)
    assert calls[-1] == pytest.approx(SECONDS_A_CALL / seconds_a_step, abs=1.01)
    assert calls == sorted(calls)


def test_the_first_call_says_nothing_and_growth_is_limited():
    assert _calls(1e-3)[:5] == [1, 1, 8, 64, 200]


@pytest.mark.parametrize("seconds_a_step", [0.19, 0.2, 5.0])
def test_slow_steps_run_one_a_call(seconds_a_step):
    assert set(_calls(seconds_a_step)) == {1}


@pytest.mark.parametrize("seconds_a_step", [1e-9, 0.0])
def test_never_more_than_the_loop_can_record(seconds_a_step):
    assert max(_calls(seconds_a_step)) == CAPACITY


def test_slows_down_again():
    clock = Clock()
    pace = Pace(clock=clock)
    for _ in range(10):
        _call(pace, clock, 1e-3)
    _call(pace, clock, 0.1)
    assert pace.steps == 2


def test_a_short_call_changes_nothing():
    clock = Clock()
    pace = Pace(clock=clock)
    for _ in range(10):
        _call(pace, clock, 1e-3)
    before = pace.steps
    _call(pace, clock, 1e-6, steps=3)
    assert pace.steps == before


@pytest.mark.parametrize("steps", [1, 7])
def test_a_fixed_pace_stays(steps):
    clock = Clock()
    pace = Pace(steps, clock=clock)
    assert {_call(pace, clock, 1e-6) for _ in range(5)} == {steps}


def test_an_error_in_the_call_passes():
    pace = Pace()
    with pytest.raises(ZeroDivisionError), pace.timing():
        1 / 0
    assert pace.steps == 1
