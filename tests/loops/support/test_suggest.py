"""Suggestions for misspelt names."""

import pytest

from gradloop.loops.support.suggest import did_you_mean

NAMES = ("adam", "adamw", "sgd", "AUC", "acc", "mean_squared_error")


@pytest.mark.parametrize(
    "value, meant",
    [
        ("adamm", "adam"),
        ("Adam", "adam"),
        ("SGDD", "sgd"),
        ("auc", "AUC"),
        ("Auc", "AUC"),
        ("mean_square_error", "mean_squared_error"),
    ],
)
def test_the_closest_name_whatever_the_case(value, meant):
    assert did_you_mean(value, NAMES) == f" Did you mean {meant!r}?"


@pytest.mark.parametrize("value", ["", "zzzzz", None, 3, ["x"]])
def test_nothing_where_nothing_is_close(value):
    assert did_you_mean(value, NAMES) == ""
    assert did_you_mean(value, ()) == ""


def test_options_may_be_read_once():
    assert did_you_mean("onne", iter(("auto", "one"))) == " Did you mean 'one'?"
