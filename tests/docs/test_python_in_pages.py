"""The Python in Markdown pages runs: what a fence calls `python`, as readers would run it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GIVEN = Path(__file__).parent / "given"  # what a page takes for granted, by the name of the page
FENCE = re.compile(r"^```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
# Answers, of which each stands alone. Other pages are read from top to bottom.
ALONE = [ROOT / "docs" / "faq.md", *sorted((ROOT / "docs" / "coming_from").glob("*.md"))]


def blocks(path: Path) -> list[str]:
    """Code behind as many empty lines as stand above it, so that tracebacks point into the page."""
    text = path.read_text() if path.exists() else ""
    return ["\n" * (text[: found.start()].count("\n") + 1) + found[1] for found in FENCE.finditer(text)]


def pages() -> list[Any]:
    """A page and the code to run in one namespace."""
    cases = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *ALONE[1:]]:
        found = blocks(path)
        for code in [[block] for block in found] if path in ALONE else [found] if found else []:
            line = code[0].count("\n", 0, len(code[0]) - len(code[0].lstrip("\n")))
            cases.append(pytest.param(path, code, id=f"{path.relative_to(ROOT)}:{line + 1}"))
    return cases


@pytest.mark.release  # of each thing that pages show, a docstring has a smaller example
@pytest.mark.parametrize(("path", "code"), pages())
def test_it_runs(path: Path, code: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it writes files
    given = GIVEN / f"{path.stem}.py"
    names: dict[str, Any] = {"__name__": "__main__"}
    for file, block in [(given, given.read_text())] if given.exists() else []:
        exec(compile(block, str(file), "exec"), names)
    for block in code:
        exec(compile(block, str(path), "exec"), names)


def test_there_is_python_in_the_readme() -> None:
    assert len(blocks(ROOT / "README.md")) >= 3
