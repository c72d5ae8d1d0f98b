"""What `keras.random` without a seed draws from, in a step that is traced.

Keras makes that generator where it first draws, and another one on each thread. In the loop of a step, or on
a replica, which has a thread of its own, TensorFlow cannot make its variable.
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
    """Traces the body with the generator that one draw before it would have made.

    If the body does not draw from it, there is none afterwards, if there was none, and Python's random
    numbers, one of which is its seed, are as they were. On replicas, one that was made for one device is
    replaced by one for all of them, which goes on where that stood.

    Yields:
        A list, which gets the generator once the body has drawn from it.
    """
    before, state = global_seed_generator(), random.getstate()
    generator = _for_this_strategy(before)
    drawn: list[keras.random.SeedGenerator] = []
    set_global_seed_generator(generator)
    random.setstate(state)
    around = vars(generator).get("next")  # of a body that this one is in

    def draw(ordered: bool = True) -> Any:
        if not drawn and before is None:
            default_seed()  # the number that is its seed
        drawn[:] = [generator]
        return (around or functools.partial(type(generator).next, generator))(ordered=ordered)

    vars(generator)["next"] = draw
    try:
        yield drawn
    finally:
        del vars(generator)["next"]
        if around is not None:
            vars(generator)["next"] = around
        if not drawn and global_seed_generator() is generator:
            set_global_seed_generator(before)


def restore_global_seeds(state: tf.Tensor) -> None:
    """Has `keras.random` without a seed go on from the state of such a generator in another process."""
    generator = global_seed_generator()
    if generator is None:
        generator = keras.random.SeedGenerator(0, name="global_seeds")
        set_global_seed_generator(generator)
    generator.state.assign(state)


def _for_this_strategy(generator: keras.random.SeedGenerator | None) -> keras.random.SeedGenerator:
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    alone = replicas == 1 or len(strategy.extended.worker_devices) == replicas
    if generator is None:
        make = functools.partial(keras.random.SeedGenerator, default_seed(), name="global_seeds")
        if alone:
            return make()
        with ThreadPoolExecutor(1) as outside:  # of the scope, in which all workers must make it together
            return outside.submit(make).result()
    made_for = getattr(generator.state.value, "distribute_strategy", None)
    if replicas == 1 or not alone or made_for is strategy:
        return generator
    other = keras.random.SeedGenerator(0, name=generator.name)
    other.state.assign(generator.state.numpy())
    return other
