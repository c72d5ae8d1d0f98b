"""docs/promises.md names tests that exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROMISE = re.compile(r"^- [^*].*?(?=^- |^#|^$)", flags=re.DOTALL | re.MULTILINE)  # those not made are bold
NAMED = re.compile(r"^  - `(tests/[\w/]+\.py)::(\w+)`$", flags=re.MULTILINE)


@functools.cache
def functions_in(file: str) -> set[str]:
    return {
        node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
    }


def test_each_promise_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "promises.md").read_text()
    promises = PROMISE.findall(text)
    assert len(promises) > 30
    assert [promise for promise in promises if not NAMED.search(promise)] == []
    assert [f"{file}::{name}" for file, name in NAMED.findall(text) if name not in functions_in(file)] == []
