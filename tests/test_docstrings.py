"""Every example in a docstring runs, and every public name has a docstring.

An example may use `keras`, `np`, `tf` and the public names of its package without importing them.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

PACKAGES = ["gradloop.loops", "gradloop.models", "gradloop.optim"]


def modules() -> list[str]:
    """The three packages and all modules in them, by what is on disk."""
    found = []
    for name in PACKAGES:
        package = importlib.import_module(name)
        found.append(name)
        found += [m.name for m in pkgutil.walk_packages(package.__path__, f"{name}.")]
    return found


@pytest.mark.parametrize("name", modules())
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    package = importlib.import_module(".".join(name.split(".")[:2]))
    public: dict[str, Any] = {each: getattr(package, each) for each in package.__all__}
    names = {"keras": keras, "np": np, "tf": tf, **public, **vars(module)}
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, globs=names):
        keras.utils.set_random_seed(0)
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("name", modules())
def test_module_says_what_it_holds(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_documented(name: str) -> None:
    package = importlib.import_module(name)
    bare = []
    for public in package.__all__:
        value = getattr(package, public)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue  # an alias of a type, whose class or members would answer for it
        if not value.__doc__:
            bare.append(public)
        if inspect.isclass(value):
            methods = inspect.getmembers(value, inspect.isfunction)
            bare += [
                f"{public}.{method}"
                for method, function in methods
                if not method.startswith("_")
                and (function.__module__ or "").startswith("gradloop")
                and not inspect.getdoc(getattr(value, method))
            ]
    assert not bare, f"no docstring: {', '.join(bare)}"


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_shown_in_use(name: str) -> None:
    package = importlib.import_module(name)
    missing = []
    for public in package.__all__:
        value = getattr(package, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            if ">>>" not in (value.__doc__ or ""):
                missing.append(public)
    assert not missing, f"no example: {', '.join(missing)}"
