"""Old module paths, so that pickles of earlier versions load: a pickle names the module of a class."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping


def keep_old_paths(package: str, moved: Mapping[str, str]) -> None:
    """Makes `import package.OLD` find the module that is now `package.NEW`.

    Args:
        package: such as `"gradloop.optim"`.
        moved: old path -> new path of each module, both within the package.
    """
    for old, new in moved.items():
        sys.modules.setdefault(f"{package}.{old}", importlib.import_module(f"{package}.{new}"))
