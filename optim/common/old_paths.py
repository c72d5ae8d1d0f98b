"""Keeps pickles readable: a pickle names the file that a class lay in when it was written."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping


def keep_old_paths(package: str, moved: Mapping[str, str]) -> None:
    """Lets `import package.OLD` find the module that `package.NEW` is now.

    Args:
        package: such as `"gradloop.optim"`.
        moved: where modules lay -> where they lie, both within the package.
    """
    for old, new in moved.items():
        sys.modules.setdefault(f"{package}.{old}", importlib.import_module(f"{package}.{new}"))
