"""What the scripts' tests share: calling a script within this process, and the form of photographs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from photos import Photos


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the `main` of a script: `run(finetune, "--epochs", 2)`. A refusal is a `SystemExit`."""

    def run(script: ModuleType, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
        script.main()

    return run


@pytest.fixture
def status(run: Callable[..., None]) -> Callable[..., int]:
    """Runs a script likewise, and gives its exit status."""

    def status(script: ModuleType, *arguments: object) -> int:
        try:
            run(script, *arguments)
        except SystemExit as ended:
            assert isinstance(ended.code, int)
            return ended.code
        return 0

    return status


@pytest.fixture
def refusal(
    status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a script that must refuse to, and gives the one line that it writes to standard error."""

    def refusal(script: ModuleType, *arguments: object) -> str:
        assert status(script, *arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ")
        return lines[0]

    return refusal


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where matplotlib is not installed."""
    real = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "matplotlib" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.fixture
def check_form() -> Callable[..., None]:
    """Checks the side of photographs and how many each part has: `check_form(data, 8, 6, 2, 2)`."""

    def check_form(data: Photos, side: int, *counts: int) -> None:
        for part, count in zip(("train", "validation", "test"), counts, strict=True):
            x, y = getattr(data, part)
            assert x.dtype == np.uint8 and x.shape == (count, side, side, 3)
            assert y.dtype == np.int64 and y.shape == (count,)
            assert set(y) == set(range(len(data.class_names)))

    return check_form
