"""`Preempted`: what a program that does not catch it leaves to see."""

import pickle
import signal

import pytest

from gradloop.optim.common.preempted import Preempted


def test_the_status_is_that_of_a_temporary_failure():
    with pytest.raises(SystemExit) as caught:
        raise Preempted
    assert caught.value.code == Preempted.code == 75  # EX_TEMPFAIL
    assert not issubclass(Preempted, Exception)  # `except Exception` lets it through


def test_it_keeps_what_it_says_in_a_pickle():
    end = pickle.loads(pickle.dumps(Preempted(signal.SIGTERM, 7, 1, "runs/a/checkpoint-3")))
    assert (end.code, end.signal, end.step, end.epoch) == (75, 15, 7, 1)
    assert end.checkpoint == "runs/a/checkpoint-3"


@pytest.mark.parametrize(
    "end, text",
    [
        (
            Preempted(signal.SIGTERM, 7, 1, "a/checkpoint-3"),
            "SIGTERM ended training after step 7, in epoch 2: the same call goes on from a/checkpoint-3.",
        ),
        (
            Preempted(None, 0, 0),
            "The time limit ended training after step 0, in epoch 1: the same call begins anew, as nothing "
            "was saved.",
        ),
        (Preempted(), "The program ended early, and is to be started again."),
    ],
)
def test_it_says_what_ended_the_run_and_where_it_goes_on(end, text):
    assert str(end) == text
