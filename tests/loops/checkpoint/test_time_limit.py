"""Time limits as people write them."""

import datetime
import pickle

import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.checkpoint.time_limit import seconds_of


@pytest.mark.parametrize(
    "limit, seconds",
    [
        ("90s", 90),
        ("45m", 45 * 60),
        ("1h30m", 90 * 60),
        ("11h50m", 11 * 3600 + 50 * 60),
        (" 1d 2h 3m 4s ", 26 * 3600 + 3 * 60 + 4),
        ("90m", 90 * 60),
        (1.5, 1.5),
        (np.int64(7), 7),
        (datetime.timedelta(hours=1, milliseconds=500), 3600.5),
    ],
)
def test_what_it_means(limit, seconds):
    assert seconds_of(limit) == seconds
    assert loops.Checkpoint("runs", time_limit=limit).time_limit == seconds


@pytest.mark.parametrize(
    "limit", ["", "90", "50m11h", "1h30", "eleven hours", "-5s", "1.5h", "11:50:00", "5x"]
)
def test_text_that_says_no_time(limit):
    with pytest.raises(ValueError, match="^`time_limit` .* says no time: write days, .* '11h50m'"):
        loops.Checkpoint("runs", time_limit=limit)


@pytest.mark.parametrize("limit", [0, -1.0, "0s", float("nan"), float("inf"), datetime.timedelta(0)])
def test_no_time_at_all(limit):
    with pytest.raises(ValueError, match="^`time_limit` must be a finite number above 0, got "):
        loops.Checkpoint("runs", time_limit=limit)


@pytest.mark.parametrize("limit", [True, [60], b"90s"])
def test_what_is_no_time(limit):
    with pytest.raises(TypeError, match="^`time_limit` must be a text such as '11h50m', .*, not "):
        loops.Checkpoint("runs", time_limit=limit)


def test_a_checkpoint_without_one():
    assert loops.Checkpoint("runs").time_limit is None
    old = loops.Checkpoint("runs")
    del old.time_limit  # a pickle of an earlier version
    assert pickle.loads(pickle.dumps(old)).time_limit is None
