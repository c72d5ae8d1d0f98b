"""The versions of gradloop and the packages that it needs."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

import keras
import tensorflow as tf


@functools.cache
def versions() -> dict[str, str]:
    """The versions of gradloop, TensorFlow, Keras and Python. The dict is shared: do not change it."""
    try:
        installed = metadata.version("gradloop")
    except metadata.PackageNotFoundError:  # used from a checkout that is not installed
        installed = "not installed"
    return {
        "gradloop": installed,
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "Python": platform.python_version(),
    }
