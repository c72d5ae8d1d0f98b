"""Old module paths, so that pickles of earlier versions load: a pickle names the module of a class."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping


def keep_old_paths(package: str, moved: Mapping[str, str]) -> None:
    """Makes `import package.OLD` find what is now `package.NEW`; `moved` maps old paths to new ones."""
    for old, new in moved.items():
        sys.modules.setdefault(f"{package}.{old}", importlib.import_module(f"{package}.{new}"))
