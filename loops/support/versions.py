"""Versions of what a run rests on."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

import keras
import tensorflow as tf


@functools.cache
def versions() -> dict[str, str]:
    """Those of gradloop, TensorFlow, Keras and Python; do not change it."""
    try:
        own = metadata.version("gradloop")
    except metadata.PackageNotFoundError:  # used from a checkout that is not installed
        own = "not installed"
    return {
        "gradloop": own,
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "Python": platform.python_version(),
    }
