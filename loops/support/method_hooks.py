"""Temporary patches of methods of Keras and TensorFlow."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

Method: TypeAlias = Callable[..., Any]
# A class, the name of a method, and a function that wraps the method.
Hook: TypeAlias = tuple[type, str, Callable[[Method], Method]]


class Hooks:
    """Patched methods of classes, in use as long as any thread needs them (a count of users)."""

    def __init__(self, hooks: Callable[[], Sequence[Hook]]) -> None:
        self._hooks = hooks
        self._lock = threading.Lock()
        self._users = 0
        self._replaced: list[tuple[type, str, Method]] = []

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Patches the methods in the body; the last of several bodies at the same time restores them."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                for kind, name, wrapper in self._hooks():
                    method = vars(kind)[name]
                    self._replaced.append((kind, name, method))
                    setattr(kind, name, functools.wraps(method)(wrapper(method)))
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                while not self._users and self._replaced:
                    setattr(*self._replaced.pop())
