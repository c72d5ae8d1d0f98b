"""Keras' global seed generator, from which `keras.random` without a seed draws, in a step that is traced.

Keras makes it at the first draw, one for each thread. While a loop of steps is traced, and on a replica,
which has a thread of its own, TensorFlow cannot make its variable. So it is made before tracing.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import tensorflow as tf

from .keras_private import default_seed, global_seed_generator, set_global_seed_generator


@contextlib.contextmanager
def tracing_with_global_seed_generator() -> Iterator[list[keras.random.SeedGenerator]]:
    """Traces the body with a global seed generator that exists, as if a number had been drawn before.

    If there was none and the body does not draw from it, there is none afterwards, and the state of Python's
    `random`, which gives its seed, does not change. On several replicas a generator that was made for one
    device is replaced by one for all of them, with the same state.

    Yields:
        A list: empty, and with the generator as its only element once the body has drawn from it.
    """
    before, state = global_seed_generator(), random.getstate()
    generator = _for_current_strategy(before)
    drawn: list[keras.random.SeedGenerator] = []
    set_global_seed_generator(generator)
    random.setstate(state)
    outer_next = vars(generator).get("next")  # if this body is within another one

    def draw(ordered: bool = True) -> Any:
        if not drawn and before is None:
            default_seed()  # draw it again, now for good: the state of `random` was restored
        drawn[:] = [generator]
        return (outer_next or functools.partial(type(generator).next, generator))(ordered=ordered)

    vars(generator)["next"] = draw
    try:
        yield drawn
    finally:
        del vars(generator)["next"]
        if outer_next is not None:
            vars(generator)["next"] = outer_next
        if not drawn and global_seed_generator() is generator:
            set_global_seed_generator(before)


def restore_global_seeds(state: tf.Tensor) -> None:
    """Has `keras.random` without a seed go on from the state of such a generator in another process."""
    generator = global_seed_generator()
    if generator is None:
        generator = keras.random.SeedGenerator(0, name="global_seeds")
        set_global_seed_generator(generator)
    generator.state.assign(state)


def _for_current_strategy(generator: keras.random.SeedGenerator | None) -> keras.random.SeedGenerator:
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    one_process = replicas == 1 or len(strategy.extended.worker_devices) == replicas
    if generator is None:
        make = functools.partial(keras.random.SeedGenerator, default_seed(), name="global_seeds")
        if one_process:
            return make()
        # Another thread is outside of the scope, in which all workers would have to make it together.
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(make).result()
    made_for = getattr(generator.state.value, "distribute_strategy", None)
    if replicas == 1 or not one_process or made_for is strategy:
        return generator
    other = keras.random.SeedGenerator(0, name=generator.name)
    other.state.assign(generator.state.numpy())
    return other
