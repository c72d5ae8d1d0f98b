"""The two columns of each page of `docs/coming_from` end with the same weights and the same numbers."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest

from tests.tolerance import rounding

FOLDER = Path(__file__).parents[2] / "docs" / "coming_from"
CODE = FOLDER / "code"


def module(path: Path) -> ModuleType:
    """A file of the pages' code."""
    spec = importlib.util.spec_from_file_location(f"coming_from_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


common = module(CODE / "common.py")
MODULES = {path.stem: module(path) for path in sorted(CODE.glob("*.py")) if path.stem != "common"}


def left_column(page: str, name: str) -> Callable[..., Any] | None:
    """`PEER_NAME` in the same file, where the page has one that runs."""
    found = [getattr(MODULES[page], f"{peer}_{name}", None) for peer in ("keras", "orbit")]
    return found[0] or found[1]


def columns() -> list[Any]:
    """Page and name of each `gradloop_NAME`; for a release, where nothing is there to compare it with."""
    found = [(page, name) for page, code in MODULES.items() for name in vars(code)]
    pairs = [(page, name.removeprefix("gradloop_")) for page, name in found if name.startswith("gradloop_")]
    marks: list[Any] = [() if left_column(*pair) else pytest.mark.release for pair in pairs]
    return [pytest.param(*pair, marks=mark) for pair, mark in zip(pairs, marks)]


def arguments(function: Callable[..., Any], folder: Path) -> dict[str, Any]:
    """What a column asks for, by the names of its parameters: the same values each time."""
    keras.utils.set_random_seed(0)
    x, y = common.examples(64, seed=0)
    x_test, y_test = common.examples(32, seed=1)
    make: dict[str, Callable[[], Any]] = {
        "x": lambda: x,
        "y": lambda: y,
        "x_test": lambda: x_test,
        "y_test": lambda: y_test,
        "noise": lambda: common.examples(64, seed=2)[0],
        "folder": lambda: str(folder),
        "model": common.network,
        "network": lambda: common.network,
        "regularized": lambda: keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(3, "softmax", kernel_regularizer="l2")]
        ),
        "generator": lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)]),
        "critic": lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)]),
    }
    return {name: make[name]() for name in inspect.signature(function).parameters}


@pytest.mark.numbers
@pytest.mark.parametrize(("page", "name"), columns())
def test_both_columns(page: str, name: str, tmp_path: Path) -> None:
    right = getattr(MODULES[page], f"gradloop_{name}")
    left = left_column(page, name)
    ours = arguments(right, tmp_path)
    result = right(**ours)
    if left is None:
        return  # a page about another framework: the right column has asserts of its own
    if left.__name__.startswith("orbit_") and importlib.util.find_spec("orbit") is None:
        pytest.skip("Orbit is not installed")
    theirs = arguments(left, tmp_path)
    expected = left(**theirs)
    trained = 0
    for key, model in ours.items():
        if isinstance(model, keras.Model):
            for mine, other in zip(model.get_weights(), theirs[key].get_weights(), strict=True):
                np.testing.assert_allclose(mine, other, rtol=rounding(), atol=1e-9)
                trained += 1
    assert trained
    assert (result is None) == (expected is None)
    for key in expected or ():
        # What is logged is in single precision.
        np.testing.assert_allclose(result[key], expected[key], rtol=rounding(sums=64), err_msg=key)


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_columns_of_text_are_python(page: Path) -> None:
    for code in re.findall(r"^```py\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        compile(code, str(page), "exec")
