"""Lists, values and the names that were meant, in error messages."""

import pytest

from gradloop.optim.common.messages import did_you_mean, first_few, short_repr

OPTIONS = ("adam", "adamw", "sgd", "AUC", "acc", "mean_squared_error")


def test_first_few():
    assert first_few(list("abc")) == "a, b, c"
    assert first_few(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_short_repr():
    assert short_repr("a\nb") == r"'a\nb'"
    assert len(short_repr(list(range(100)))) == 80


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
    assert did_you_mean(value, OPTIONS) == f" Did you mean {meant!r}?"


@pytest.mark.parametrize("value", ["", "zzzzz", None, 3, ["x"]])
def test_nothing_where_nothing_is_close(value):
    assert did_you_mean(value, OPTIONS) == ""
    assert did_you_mean(value, ()) == ""


def test_options_may_be_read_once():
    assert did_you_mean("onne", iter(("auto", "one"))) == " Did you mean 'one'?"


def test_several_are_named_closest_first():
    assert did_you_mean("adam", OPTIONS, most=3) == " Did you mean 'adam' or 'adamw'?"
