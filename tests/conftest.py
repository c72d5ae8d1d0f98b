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
from typing import Any

import pytest

# Before TensorFlow is imported: its C++ side prints to the terminal, past Python's warnings.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
gc.disable()  # until the first test: imports leave no garbage to speak of


@pytest.fixture(autouse=True, scope="session")
def drawn() -> Iterator[list[object]]:
    """The seeds of TensorFlow's own random operations in this test; without any, kernels outlive a new seed.

    TensorFlow makes them all anew, as those operations keep in them what they have drawn. Keras draws in
    another way, and tests set a seed before each model: that takes a fifth of their time.
    """
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.framework import random_seed

    seeds: list[object] = []
    clear, get_seed = pywrap_tfe.TFE_ContextClearCaches, random_seed.get_seed

    def noted(seed: int | None) -> Any:
        seeds.append(seed)
        return get_seed(seed)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(random_seed, "get_seed", noted)
        patched.setattr(pywrap_tfe, "TFE_ContextClearCaches", lambda context: seeds and clear(context))
        yield seeds


@pytest.fixture(autouse=True, scope="module")
def fast_collections(drawn: list[object]) -> None:
    """Garbage is looked for among what this module made: all that others left would take a second each time.

    Keras' `quantize` looks for it itself, once a layer.
    """
    drawn.append("kernels of other modules")
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
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
def same_start(request: pytest.FixtureRequest, drawn: list[object]) -> Iterator[None]:
    """Seeds before each test, and float32; float64 for those marked `numbers`, see `tolerance.py`."""
    import keras

    numbers = request.node.get_closest_marker("numbers")
    use(numbers.args[0] if numbers and numbers.args else "float64" if numbers else "float32")
    keras.utils.set_random_seed(0)
    drawn.clear()
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


@pytest.fixture(autouse=True, scope="session")
def no_stack_of_each_operation() -> Iterator[None]:
    """Where each operation of a graph was made is not looked up: it takes a twentieth of all time.

    TensorFlow tells it in errors alone. In the programs that tests start it is looked up.
    """
    from tensorflow.python.util import tf_stack

    here = tf_stack.extract_stack()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tf_stack, "extract_stack", lambda stacklevel=1: here)
        yield


def use(dtype: str) -> None:
    """The dtype of layers, and that of losses, metrics and learning rates."""
    import keras

    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def pytest_addoption(parser: pytest.Parser) -> None:
    for option, of, one in (("each", "test function", "case"), ("each-file", "file", "test")):
        parser.addoption(
            f"--one-of-{option}",
            action="append",
            default=[],
            metavar="FOLDER",
            help=f"of each {of} under FOLDER, run its first {one} alone, those marked `versions` aside",
        )


@pytest.hookimpl(trylast=True)  # of what the marks leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def under(item: pytest.Item, folders: list[Path]) -> bool:
        return any(item.path.is_relative_to(folder) for folder in folders)

    functions, files = (
        [Path(folder).absolute() for folder in config.getoption(option)]
        for option in ("one_of_each", "one_of_each_file")
    )
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    seen: set[str] = set()
    for item in items:
        function = item.nodeid.partition("[")[0]
        once: str | None = function if under(item, functions) else None
        if under(item, files) and item.get_closest_marker("numbers") is None:
            once = str(item.path)
        if item.get_closest_marker("versions") is not None:
            once = None
        (left if once in seen else kept).append(item)
        if once is not None:
            seen.add(once)
    if left:
        config.hook.pytest_deselected(items=left)
    # Those that start programs stand together: so most are run by one process of pytest-xdist, in which the
    # server of programs starts once, for seconds; while it waits, the others work. Whole scripts take longest
    # and lie highest: with short tests at the end all processes end together.
    items[:] = sorted(kept, key=lambda item: (not _starts_programs(item), len(item.path.parts)))


def _starts_programs(item: pytest.Item) -> bool:
    module = getattr(item, "module", None)
    return hasattr(module, "Program") or hasattr(module, "SERVER")
