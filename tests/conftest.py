"""What every test starts from: a quiet TensorFlow, the same seeds, float32."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before TensorFlow is imported: its C++ side prints to the terminal, past Python's warnings.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    """Seeds before each test; float32 again afterwards."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
