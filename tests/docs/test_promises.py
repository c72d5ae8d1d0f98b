"""docs/promises.md names tests that exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@functools.cache
def functions_in(file: str) -> set[str]:
    return {
        node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
    }


def test_each_promise_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "promises.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| (?!promise)\w", line)]
    assert len(rows) > 30
    assert [row for row in rows if not NAMED.search(row)] == []
    assert [f"{file}::{name}" for file, name in NAMED.findall(text) if name not in functions_in(file)] == []
