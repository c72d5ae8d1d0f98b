"""Paths in which TensorFlow finds what was written there."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def readable(path: str) -> Iterator[str]:
    """A path under which TensorFlow's readers find the files that begin with `path`.

    They take it for a pattern, and so find nothing in a folder `lr=[0.1]`, which TensorFlow has written
    without complaint. To them that is told as a link to the folder, which is there as long as the body runs.

    Example:
        >>> from gradloop.optim.common.readable import readable
        >>> with readable("runs/1/state") as one, readable("runs/[1]/state") as other:
        ...     one, "[" in other
        ('runs/1/state', False)
    """
    if os.name == "nt" or "://" in path or not re.search(r"[\[\\]", path):
        yield path
        return
    folder, name = os.path.split(os.path.abspath(path))
    with tempfile.TemporaryDirectory() as place:
        link = os.path.join(place, "folder")
        os.symlink(folder, link)
        yield os.path.join(link, name)
