"""Functions traced for the shapes of the data, few for many shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .executor import executor, nests_calls


def open_spec(tensor: tf.Tensor) -> tf.TensorSpec:
    """Returns a tensor's spec with the first dimension open."""
    return tf.TensorSpec([None, *tensor.shape[1:]] if tensor.shape.rank else [], tensor.dtype)


class TraceCache:
    """Traces functions, once for each kind of call and the dtypes and ranks of the data.

    Data of another shape is one more trace, in which the dimensions that differ are open from then on. Where
    the step cannot be traced so, because it asks for a size while it is traced, each shape is a trace.

    Args:
        forward: takes a batch through the model's own checks of shapes. An open dimension passes them all, so
            before one is opened `forward` is traced for the shape that is there.
        inline: see `executor`; given up where a function calls functions of its own.
    """

    def __init__(self, forward: Callable[[Any], Any], inline: bool) -> None:
        self.inline = inline
        self._forward = forward
        self._functions: dict[Any, list[tuple[Any, Any]]] = {}
        self._ask_sizes: set[Any] = set()

    def get(
        self,
        call: Any,
        function: Callable[..., Any],
        specs: Any,
        *rest: tf.TensorSpec,
        argument: Callable[[Any], Any] | None = None,
        batch: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Returns a concrete function that takes data of `specs`, traced if there is none yet.

        After `tf.config.run_functions_eagerly(True)` it is `function` itself, which a debugger can enter.

        Args:
            call: the kind of call.
            function: takes the data and what `rest` describes.
            specs: of the data.
            rest: of the other arguments.
            argument: makes the spec of the function's first argument of the data's, if they differ.
            batch: makes a batch of the data, if it is none itself.
        """
        if tf.config.functions_run_eagerly():
            return function
        key = (call, _kind(specs))
        known = self._functions.get(key, [])
        for taken, traced in known:
            if _covers(taken, specs):
                return traced

        def trace(taken: Any) -> Any:
            return self._trace(function, argument(taken) if argument else taken, *rest)

        if known:
            forward = self._forward
            check = (lambda data: forward(batch(data))) if batch else forward
            tf.function(check, autograph=False).get_concrete_function(specs)
        if known and key not in self._ask_sizes:
            wide = _widened(known[0][0], specs)
            try:
                traced = trace(wide)
            except (TypeError, ValueError):
                self._ask_sizes.add(key)
            else:
                self._functions[key] = [(wide, traced)]
                return traced
        traced = trace(specs)
        self._functions.setdefault(key, []).append((specs, traced))
        return traced

    def _trace(self, function: Callable[..., Any], *specs: Any) -> Any:
        # Without AutoGraph our own errors reach the caller as they were raised.
        with executor(self.inline):
            traced = tf.function(function, autograph=False).get_concrete_function(*specs)
        if self.inline and nests_calls(traced):
            self.inline = False
            self._functions.clear()
            traced = tf.function(function, autograph=False).get_concrete_function(*specs)
        return traced


def _kind(specs: Any) -> str:
    """What specs must share for one function to take them all: structure, dtypes and ranks."""

    def kind(spec: Any) -> Any:
        return (spec.dtype.name, spec.shape.rank) if isinstance(spec, tf.TensorSpec) else spec

    return repr(tf.nest.map_structure(kind, specs))


def _covers(known: Any, specs: Any) -> bool:
    """Whether a function traced for `known` takes `specs`, which are of the same kind."""
    pairs = zip(tf.nest.flatten(known), tf.nest.flatten(specs))
    return all(spec.is_subtype_of(wide) for wide, spec in pairs)


def _widened(known: Any, specs: Any) -> Any:
    """Specs that cover both, which are of the same kind: dimensions that differ are open."""
    return tf.nest.map_structure(lambda one, other: one.most_specific_common_supertype([other]), known, specs)
