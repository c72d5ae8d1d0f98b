"""Features in a folder, memory-mapped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence

import numpy as np

_FREE = 1 << 24  # bytes that a disk keeps: for what else is written to it meanwhile


class FeatureFiles:
    """The files of one cache: `features-0.npy` and so on, `sample-0.npy` and so on of a few examples, and
    `cache.json`, written last.

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
        """The fingerprint of the features; None if they are not whole.

        That is, if they were not written to their end, or a file is gone or of another size than it had.
        """
        try:
            with open(self._index, encoding="utf-8") as file:
                index = json.load(file)
            whole = self._sizes(index["arrays"]) == index["sizes"]
            return str(index["key"]) if whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def read(self) -> list[np.ndarray]:
        """The features, read as they are used."""
        return [np.load(self._file(number), mmap_mode="r") for number in range(self._count())]

    def sample(self) -> list[np.ndarray]:
        """The features of a few examples, as they were given to `writing`."""
        return [np.load(self._file(number, "sample")) for number in range(self._count())]

    @contextlib.contextmanager
    def writing(
        self, key: str, examples: int, sample: Sequence[np.ndarray]
    ) -> Iterator[Callable[[Sequence[np.ndarray]], None]]:
        """Gives a function that takes batches of features one after the other.

        Args:
            key: their fingerprint.
            examples: how many there will be.
            sample: features of a few examples, which are kept; shapes and types are taken of them.

        Raises:
            OSError: they do not fit on the disk, or the folder cannot be written to.
        """
        os.makedirs(self.folder, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._index)
        for number in range(len(sample)):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._file(number))
        # Before anything of it is written.
        needed = sum((examples + len(array)) * array[0].nbytes for array in sample)
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
            for number, array in enumerate(sample)
        ]
        yield filling(arrays)
        for array in arrays:
            array.flush()
        for number, few in enumerate(sample):
            np.save(self._file(number, "sample"), few)
        with open(self._index, "w", encoding="utf-8") as file:
            sizes = self._sizes(len(arrays))
            json.dump({"key": key, "arrays": len(arrays), "examples": examples, "sizes": sizes}, file)

    def _count(self) -> int:
        with open(self._index, encoding="utf-8") as file:
            return int(json.load(file)["arrays"])

    def _sizes(self, arrays: int) -> list[list[int]]:
        """Bytes of each file."""
        kinds = ("features", "sample")
        return [[os.path.getsize(self._file(number, kind)) for kind in kinds] for number in range(arrays)]

    def _file(self, number: int, kind: str = "features") -> str:
        return os.path.join(self.folder, f"{kind}-{number}.npy")


def filling(arrays: Sequence[np.ndarray]) -> Callable[[Sequence[np.ndarray]], None]:
    """Returns a function that takes batches one after the other and writes them into arrays for all."""
    first = 0

    def write(batch: Sequence[np.ndarray]) -> None:
        nonlocal first
        for array, some in zip(arrays, batch):
            array[first : first + len(some)] = some
        first += len(batch[0])

    return write
