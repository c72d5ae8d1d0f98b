"""What every test starts from: a quiet TensorFlow, the same seeds, a dtype; and `--one-of-each`.

TensorFlow and Keras are imported where they are used: the process that hands out tests to others reads this
file too, and would begin seconds later.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before TensorFlow is imported: its C++ side prints to the terminal, past Python's warnings.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
gc.disable()  # until the first test: imports leave no garbage to speak of


@pytest.fixture(autouse=True, scope="module")
def fast_collections() -> None:
    """Garbage is looked for among what this module made: all that others left would take a second each time.

    Keras' `quantize` looks for it itself, once a layer.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One that pytest removes: TensorFlow leaves files of AutoGraph's behind each process that is killed."""
    folder = str(tmp_path_factory.mktemp("tmp"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", folder)  # of the programs that tests start
        patched.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(autouse=True)
def same_start(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seeds before each test, and float32; float64 for those marked `numbers`, see `tolerance.py`."""
    import keras

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
    import tensorflow as tf

    make_iterator = tf.data.Dataset.__iter__
    options = tf.data.Options()
    options.autotune.enabled = False
    monkeypatch.setattr(tf.data.Dataset, "__iter__", lambda data: make_iterator(data.with_options(options)))


def use(dtype: str) -> None:
    """The dtype of layers, and that of losses, metrics and learning rates."""
    import keras

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
    # Whole programs take longest and lie highest: with short tests at the end all processes end together.
    items[:] = sorted(kept, key=lambda item: len(item.path.parts))
