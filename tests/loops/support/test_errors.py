"""Things that must all be tried, and what is told of their errors."""

import sys
import traceback

import pytest

from gradloop.loops.support import errors


def _raises(error):
    def function():
        raise error

    return function


def test_all_are_called_and_the_first_error_is_raised_with_the_others_as_notes():
    called = []
    later = OSError("disk full")
    errors.add_note(later, "It was drive 2.")
    functions = [_raises(KeyError("first")), _raises(later), lambda: called.append(1), _raises(later)]
    with pytest.raises(KeyError, match="first") as caught:
        errors.call_each(functions)
    assert called == [1]
    assert caught.value.__notes__ == ["Then OSError came as well: disk full It was drive 2."]


def test_an_error_that_is_handled_stays_the_first():
    first = ValueError("first")
    errors.call_each([_raises(OSError("then")), _raises(first)], first)
    assert first.__notes__ == ["Then OSError came as well: then"]
    errors.call_each([], None)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 prints no notes")
def test_python_prints_notes_below_the_error():
    error = ValueError("wrong")
    errors.add_note(error, "Here.")
    assert traceback.format_exception(error)[-2:] == ["ValueError: wrong\n", "Here.\n"]


def test_where_python_does_not_they_are_printed_at_once(monkeypatch, capsys):
    monkeypatch.setattr(errors, "_PYTHON_PRINTS_NOTES", False)
    error = ValueError("wrong")
    for _ in range(2):
        errors.add_note(error, "Here.")
    assert capsys.readouterr().err == "ValueError: Here.\n" and error.__notes__ == ["Here."]
