"""Features in a folder, memory-mapped, with a fingerprint of what they were made of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from .keras_private import calls

_FREE = 1 << 24  # bytes that a disk keeps: for what else is written to it meanwhile


class FeatureFiles:
    """The files of one cache: `features-0.npy` and so on, and `cache.json`, written last.

    Args:
        path: their folder; made when they are written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(path)
        self._index = os.path.join(self.folder, "cache.json")

    @property
    def exists(self) -> bool:
        """Whether there are features, whole or not."""
        return os.path.exists(self._file(0))

    @property
    def key(self) -> str | None:
        """The fingerprint of the features; None if they were not written to their end."""
        try:
            with open(self._index, encoding="utf-8") as file:
                return str(json.load(file)["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def read(self) -> list[np.ndarray]:
        """The features, read as they are used."""
        with open(self._index, encoding="utf-8") as file:
            count = int(json.load(file)["arrays"])
        return [np.load(self._file(number), mmap_mode="r") for number in range(count)]

    @contextlib.contextmanager
    def writing(
        self, key: str, examples: int, like: Sequence[np.ndarray]
    ) -> Iterator[Callable[[Sequence[np.ndarray]], None]]:
        """Gives a function that takes batches of features one after the other.

        Args:
            key: their fingerprint.
            examples: how many there will be.
            like: features of some examples, of which shapes and types are taken.

        Raises:
            OSError: they do not fit on the disk, or the folder cannot be written to.
        """
        os.makedirs(self.folder, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._index)
        for number in range(len(like)):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._file(number))
        # Before anything of it is written.
        needed = sum(examples * array[0].nbytes for array in like)
        free = shutil.disk_usage(self.folder).free
        if needed + _FREE > free:
            raise OSError(
                f"`path` {self.folder!r}: the features take {needed / 1e9:.2f} GB, and the disk has "
                f"{free / 1e9:.2f} GB free. Choose another folder, fewer examples, or a later layer."
            )
        arrays = [
            np.lib.format.open_memmap(
                self._file(number), "w+", dtype=array.dtype, shape=(examples, *array.shape[1:])
            )
            for number, array in enumerate(like)
        ]
        yield filling(arrays)
        for array in arrays:
            array.flush()
        with open(self._index, "w", encoding="utf-8") as file:
            json.dump({"key": key, "arrays": len(arrays), "examples": examples}, file)

    def _file(self, number: int) -> str:
        return os.path.join(self.folder, f"features-{number}.npy")


def filling(arrays: Sequence[np.ndarray]) -> Callable[[Sequence[np.ndarray]], None]:
    """Returns a function that takes batches one after the other and writes them into arrays for all."""
    first = 0

    def write(batch: Sequence[np.ndarray]) -> None:
        nonlocal first
        for array, some in zip(arrays, batch):
            array[first : first + len(some)] = some
        first += len(batch[0])

    return write


def fingerprint(front: keras.Model, x: Any, copies: int) -> str:
    """A checksum of layers, weights and data; names of layers, which Keras numbers, are left out."""
    digest = hashlib.blake2b(digest_size=20)
    made: dict[int, int] = {}
    for call in calls(front):
        config = {key: value for key, value in call.operation.get_config().items() if key != "name"}
        reads = [made[id(tensor)] for tensor in call.inputs]
        for tensor in call.outputs:
            made[id(tensor)] = len(made)
        # What else the call was given, such as the 2 in `x * 2`.
        args = call.arguments({id(tensor): f"tensor {made[id(tensor)]}" for tensor in call.inputs})
        given = [_said(value) for value in keras.tree.flatten(args)] if call.inputs else []
        said = [type(call.operation).__name__, config, reads, given, copies]
        digest.update(json.dumps(said, sort_keys=True, default=str).encode())
    for weight in front.weights:
        digest.update(weight.numpy().tobytes())
    for array in keras.tree.flatten(x):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _said(value: Any) -> str:
    if hasattr(value, "shape"):
        array = np.asarray(value)
        return f"{array.dtype} {array.shape} {hashlib.blake2b(array.tobytes()).hexdigest()}"
    return repr(value)
