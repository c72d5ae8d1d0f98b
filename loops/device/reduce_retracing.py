"""A function of any arguments, traced for few shapes of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
import tensorflow as tf

from ...optim.common.types import Tensors
from ..support.tensorflow_private import spec_of
from .trace_cache import TraceCache

P = ParamSpec("P")
Result = TypeVar("Result")


def reduce_retracing(function: Callable[P, Result]) -> Callable[P, Result]:
    """Returns `function` as one TensorFlow function of the arrays and tensors among its arguments.

    The first shapes are traced as they are; when others come, the dimensions that differ are opened, where
    the function asks for no sizes (see `TraceCache`). Everything else that is passed is a constant of the
    trace, as in `tf.function`. While another function is traced, it is a part of that.
    """
    caches: dict[Hashable, tuple[TraceCache, Callable[..., Any]]] = {}
    kept: list[object] = []  # objects whose `id` stands for them

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        if not tf.executing_eagerly():
            return function(*args, **kwargs)
        arguments = (args, kwargs)
        flat = [_as_tensor(value) for value in tf.nest.flatten(arguments)]
        given = [spec_of(value) for value in flat]
        constants = [None if spec else value for value, spec in zip(flat, given)]
        structure = repr(tf.nest.map_structure(lambda _: 0, arguments))
        key = (structure, *(None if spec else _key(value) for value, spec in zip(flat, given)))
        if key not in caches:
            kept.append(constants)

            def run(tensors: Sequence[Tensors]) -> Tensors:
                left = iter(tensors)
                leaves = [next(left) if spec else value for value, spec in zip(constants, given)]
                args, kwargs = tf.nest.pack_sequence_as(arguments_like, leaves)
                return function(*args, **kwargs)

            arguments_like = tf.nest.map_structure(lambda _: 0, arguments)
            caches[key] = TraceCache(run, one_thread=False), run
        cache, run = caches[key]
        tensors = [value for value, spec in zip(flat, given) if spec]
        return cache.get("step", run, [spec for spec in given if spec])(tensors)

    return call


def _as_tensor(value: object) -> object:
    return tf.convert_to_tensor(value) if isinstance(value, (np.ndarray, np.generic)) else value


def _key(value: object) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value
