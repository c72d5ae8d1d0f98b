"""Saves features in a folder, and reads them as memory-mapped arrays."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...optim.common.types import Array

_RESERVE = 1 << 24  # bytes of disk space that are left free


class FeatureFiles:
    """The files of one cache.

    `features-0.npy`, `features-1.npy`, ... hold the features, one file for each tensor of the cut;
    `sample-0.npy`, ... those of a few examples; `cache.json`, written last, the fingerprint and the sizes of
    the files. `writing` creates their folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(path)
        self._index = os.path.join(self.folder, "cache.json")

    @property
    def exists(self) -> bool:
        """Whether the folder has features, complete or not."""
        return os.path.exists(self._file(0))

    @property
    def key(self) -> str | None:
        """The fingerprint of the features; None if they are incomplete, or a file has another size."""
        try:
            with open(self._index, encoding="utf-8") as file:
                index = json.load(file)
            complete = self._sizes(index["arrays"]) == index["sizes"]
            return str(index["key"]) if complete else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def read(self) -> list[Array]:
        """The features, (examples, ...) each, memory-mapped."""
        return [np.load(self._file(number), mmap_mode="r") for number in range(self._count())]

    def sample(self) -> list[Array]:
        """The features of a few examples, as passed to `writing`."""
        return [np.load(self._file(number, "sample")) for number in range(self._count())]

    @contextlib.contextmanager
    def writing(
        self, key: str, examples: int, sample: Sequence[Array]
    ) -> Iterator[Callable[[Sequence[Array]], None]]:
        """Yields a function that writes the next batch of features; `examples` is the number of all examples.

        `sample` are the features of a few examples, which are written, too; they give shapes and dtypes.
        Raises OSError if the features do not fit on the disk, or the folder cannot be written.
        """
        os.makedirs(self.folder, exist_ok=True)
        for old in (self._index, *map(self._file, range(len(sample)))):
            with contextlib.suppress(FileNotFoundError):
                os.remove(old)
        needed = sum((examples + len(array)) * array[0].nbytes for array in sample)
        free = shutil.disk_usage(self.folder).free
        if needed + _RESERVE > free:
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
        yield batch_writer(arrays)
        for array in arrays:
            array.flush()
        for number, few_features in enumerate(sample):
            np.save(self._file(number, "sample"), few_features)
        with open(self._index, "w", encoding="utf-8") as file:
            sizes = self._sizes(len(arrays))
            json.dump({"key": key, "arrays": len(arrays), "examples": examples, "sizes": sizes}, file)

    def _count(self) -> int:
        with open(self._index, encoding="utf-8") as file:
            return int(json.load(file)["arrays"])

    def _sizes(self, arrays: int) -> list[list[int]]:
        """The bytes of each file."""
        kinds = ("features", "sample")
        return [[os.path.getsize(self._file(number, kind)) for kind in kinds] for number in range(arrays)]

    def _file(self, number: int, kind: str = "features") -> str:
        return os.path.join(self.folder, f"{kind}-{number}.npy")


def batch_writer(arrays: Sequence[Array]) -> Callable[[Sequence[Array]], None]:
    """Returns a function that copies a batch into the next rows of `arrays`, which hold all examples."""
    start = 0

    def write(batch: Sequence[Array]) -> None:
        nonlocal start
        for array, rows in zip(arrays, batch):
            array[start : start + len(rows)] = rows
        start += len(batch[0])

    return write
