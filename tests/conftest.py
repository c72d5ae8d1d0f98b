"""What every test starts from: a quiet TensorFlow, the same seeds, a dtype; and `--one-of-each`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before TensorFlow is imported: its C++ side prints to the terminal, past Python's warnings.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402


@pytest.fixture(autouse=True)
def same_start(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seeds before each test, and float32; float64 for those marked `numbers`, see `tolerance.py`."""
    numbers = request.node.get_closest_marker("numbers")
    use(numbers.args[0] if numbers and numbers.args else "float64" if numbers else "float32")
    keras.utils.set_random_seed(0)
    yield
    use("float32")


@pytest.fixture(autouse=True)
def no_autotuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets are not tuned, which shows in speed alone.

    The thread that tunes one now and then misses that its iterator is deleted, and whoever deletes that waits
    until it wakes by itself: up to a minute, in the middle of any test in which Python collects garbage.
    """
    make_iterator = tf.data.Dataset.__iter__
    options = tf.data.Options()
    options.autotune.enabled = False
    monkeypatch.setattr(tf.data.Dataset, "__iter__", lambda data: make_iterator(data.with_options(options)))


def use(dtype: str) -> None:
    """The dtype of layers, and that of losses, metrics and learning rates."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--one-of-each",
        action="append",
        default=[],
        metavar="FOLDER",
        help="of each test function under FOLDER, run its first case alone, those marked `versions` aside",
    )


@pytest.hookimpl(trylast=True)  # of what the marks leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    folders = [Path(folder).absolute() for folder in config.getoption("one_of_each")]
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    seen: set[str] = set()
    for item in items:
        function = item.nodeid.partition("[")[0]
        once = any(item.path.is_relative_to(folder) for folder in folders)
        once = once and item.get_closest_marker("versions") is None
        (left if once and function in seen else kept).append(item)
        seen.add(function)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept
