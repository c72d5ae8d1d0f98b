"""Pace: calls of about a fifth of a second, whatever a step takes."""

import pytest

from gradloop.loops.device.row_buffer import CAPACITY
from gradloop.loops.device.steps_per_call import SECONDS_A_CALL, StepsPerCall


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
    pace = StepsPerCall(clock=clock)
    return [_call(pace, clock, seconds_a_step, 30.0 if call == 0 else 0.0) for call in range(count)]


def _settled(seconds_a_step):
    clock = Clock()
    pace = StepsPerCall(clock=clock)
    for _ in range(10):
        _call(pace, clock, seconds_a_step)
    return pace, clock


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
    pace, clock = _settled(1e-3)
    _call(pace, clock, 0.1)
    assert pace.steps == 2


def test_a_short_call_changes_nothing():
    pace, clock = _settled(1e-3)
    before = pace.steps
    _call(pace, clock, 1e-6, steps=3)
    assert pace.steps == before


@pytest.mark.parametrize(
    ("left", "calls"),
    [(3, [3]), (99, [99]), (250, [250]), (310, [155, 155]), (499, [250, 249]), (1020, [204] * 5)],
)
def test_an_epoch_is_dealt_out_without_a_stub(left, calls):
    second = 2.0**-10  # which a float holds exactly
    pace, clock = _settled(second)
    assert pace.steps == 204
    made = []
    while left:
        made.append(pace.next_call(left))
        _call(pace, clock, second, steps=made[-1])
        left -= made[-1]
    assert made == calls
    assert pace.steps == 204


def test_calls_a_bit_shorter_than_the_pace_tell_too():
    pace, clock = _settled(2.0**-10)
    ran = pace.next_call(310)
    _call(pace, clock, 2.0**-8, steps=ran)
    assert (ran, pace.steps) == (155, 51)


def test_what_is_left_is_no_more_than_the_loop_can_record():
    pace, _ = _settled(1e-9)
    assert pace.next_call(CAPACITY + 10) == CAPACITY
    assert pace.next_call(None) == CAPACITY


@pytest.mark.parametrize(("left", "steps"), [(None, 7), (100, 7), (10, 7), (5, 5)])
def test_a_fixed_pace_is_never_exceeded(left, steps):
    assert StepsPerCall(7).next_call(left) == steps


@pytest.mark.parametrize("steps", [1, 7])
def test_a_fixed_pace_stays(steps):
    clock = Clock()
    pace = StepsPerCall(steps, clock=clock)
    assert {_call(pace, clock, 1e-6) for _ in range(5)} == {steps}


def test_an_error_in_the_call_passes():
    pace = StepsPerCall()
    with pytest.raises(ZeroDivisionError), pace.timing():
        1 / 0
    assert pace.steps == 1
