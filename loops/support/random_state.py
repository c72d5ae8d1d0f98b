"""Restoring the state of random number generators."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np

from .keras_private import preserve_global_seed_generator
from .tensorflow_private import global_generator, temporary_eager_seeds


@contextlib.contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restores, after the body, the global random state of Python, NumPy, TensorFlow and Keras."""
    python, numpy, generator = random.getstate(), np.random.get_state(), global_generator()
    state = None if generator is None else generator.state.numpy()
    with preserve_global_seed_generator(), temporary_eager_seeds():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            if generator is not None:
                generator.state.assign(state)
