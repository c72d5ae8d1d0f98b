"""Methods replaced for a while, by several at once."""

import pytest

from gradloop.loops.support.method_hooks import Hooks


class Counter:
    def next(self):
        """The next number."""
        return 1


def test_methods_are_replaced_until_the_last_user_is_gone():
    original = Counter.next
    hooks = Hooks(lambda: [(Counter, "next", lambda method: lambda counter: method(counter) + 1)])
    with hooks.installed():
        with pytest.raises(RuntimeError), hooks.installed():
            assert Counter().next() == 2 and Counter.next.__doc__ == "The next number."
            raise RuntimeError
        assert Counter().next() == 2, "another one still wants it"
    assert Counter.next is original
