"""Whether several workers, of which each takes its part of every batch, read the same batches."""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from ..data.batches import DataIterator
from ..support.dataset_order import nondeterminism_and_seeds
from ..support.tensorflow_private import dataset_of

# `TrainStep.mean_over_workers`: each worker gets the mean of the numbers that all call it with, so all must
# call it, and none goes on before the others do. None for one process.
Mean: TypeAlias = Callable[[float], float] | None


def check_same_order(data: tf.data.Dataset, name: str, mean: Mean) -> None:
    """Raises ValueError if several workers would read a dataset in different orders.

    Then some examples would be in two parts of a batch, and others in none. What a Python generator does, or
    a program that shuffles files before it makes a dataset, cannot be seen.

    Args:
        data: what each worker reads.
        name: the caller's name for it.
        mean: that of the workers; with None nothing is checked.
    """
    if mean is None:
        return
    unordered, seeds = nondeterminism_and_seeds(data)
    if data.options().deterministic is False:
        unordered.append("the option `deterministic = False`")
    # Also where it is bad already, as the others wait for this.
    same = same_on_all_workers(0 if unordered else 1 + zlib.crc32(repr(seeds).encode()) % 4095, mean)
    if unordered:
        raise ValueError(
            f"`{name}` is a dataset in no fixed order, with {unordered[0]}, and each of several workers "
            "takes its part of every batch: some examples would be read twice, others never. Seed what is "
            "random, `shuffle(size, seed=0)`, and leave `deterministic=False` out."
        )
    if not same:
        raise ValueError(
            f"`{name}` is shuffled by other seeds on other workers, and each takes its part of every batch: "
            "some examples would be read twice, others never. Give `shuffle` and the like the same `seed`."
        )


class OrderCheck:
    """`check_same_order` for iterators, each once."""

    def __init__(self, mean: Mean) -> None:
        self._mean = mean
        self._checked: weakref.WeakSet[tf.data.Iterator] = weakref.WeakSet()

    def check(self, iterator: DataIterator) -> None:
        data = dataset_of(iterator)
        if self._mean is not None and data is not None and iterator not in self._checked:
            check_same_order(data, "iterator", self._mean)
            self._checked.add(iterator)


def same_on_all_workers(number: int, mean: Mean) -> bool:
    """Whether all workers pass the same number; each gets the same answer."""
    if mean is None:
        return True
    own = float(number % 4096)  # float32 holds this exactly, and its differences from a mean
    return mean(abs(own - mean(own))) < 1e-3
