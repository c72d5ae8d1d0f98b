"""The texts of a progress bar: a line that fits, and a whole one."""

import numpy as np

from gradloop.loops.callbacks.progress_text import Progress, details, fitting_line, whole_line


def test_braces_in_a_name_are_no_format():
    odd = Progress("a {b}", 1, 2, 1.0, 1.0, {"{c}": 1.0})
    assert fitting_line(odd, 80).format(bar="##") == "a {b}:  50%|##| 1/2 [00:01<00:01, 1/s] {c}=1.000"
    assert whole_line(odd) == "a {b}: 1/2 [00:01<00:01, 1 steps/s] {c}=1.000"


def test_logs_that_are_no_numbers_are_shown_as_they_are():
    told = {"loss": 0.5, "note": "a", "each": np.ones(2), "best": None}
    assert details(Progress("Epoch 1/1", 1, 1, 1.0, None, told, ended=True)).endswith(
        "loss=0.5000 note=a each=[1. 1.] best=None"
    )
