"""Functions traced for the shapes of the data, few for many shapes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeAlias

import tensorflow as tf

from ...optim.common.types import Batch, Tensors
from ..data.arrays import map_tensors, tensors_in
from ..support.global_seed_generator import tracing_with_global_seed_generator
from ..support.keras_private import global_seed_generator
from ..support.scalars import recording_disabled
from ..support.tensorflow_private import calls_summary, default_summary_writer
from .dynamic_batch_size import DynamicBatchSize, UnknownBatchSizeError
from .executor import executor, nests_calls

# `tf.TypeSpec`s in the structure of the data.
Specs: TypeAlias = Tensors
Traced: TypeAlias = tf.types.experimental.ConcreteFunction
# The kind of call, that of the data and, where they matter, the default writer of `tf.summary` and the
# generator of `keras.random` without a seed.
Key: TypeAlias = tuple[Hashable, str, Hashable, Hashable]


def dynamic_batch_spec(tensor: tf.Tensor) -> tf.TypeSpec:
    """Returns a tensor's spec with the first dimension open."""
    shape = [None, *tensor.shape[1:]] if tensor.shape.rank else []
    if isinstance(tensor, tf.RaggedTensor):
        return tf.RaggedTensorSpec(shape, tensor.dtype, tensor.ragged_rank, tensor.row_splits.dtype)
    return (tf.SparseTensorSpec if isinstance(tensor, tf.SparseTensor) else tf.TensorSpec)(
        shape, tensor.dtype
    )


def fixed_spec(tensor: tf.Tensor) -> tf.TypeSpec:
    """Returns a tensor's spec as it is."""
    return tf.type_spec_from_value(tensor)


class TraceCache(DynamicBatchSize):
    """Traces functions, once for each kind of call and the dtypes and ranks of the data.

        traced for these shapes already: return that
        traced for others: let the model check these shapes, then retrace with the dimensions that differ open
        where that fails, as the step asks for a size: trace these shapes alone
        of a step that calls `tf.summary`, another trace for each default writer, which a trace takes as it is
        of one that calls `keras.random` without a seed, another where new seeds were set since

    `tf.function(reduce_retracing=True)` opens dimensions, and ranks, without the model's check of shapes, and
    fails where a step asks for a size: `test_a_shape_that_does_not_fit_is_told_by_keras`,
    `test_a_model_that_asks_for_sizes_is_traced_for_each`, `test_other_dtypes_and_ranks_are_other_kinds`.

    Args:
        forward: runs the model on a batch, for its own checks of shapes. An open dimension passes them all,
            so before one is opened `forward` is traced for the shape at hand.
        one_thread: see `executor`; set to False where a function calls functions of its own.

    Attributes:
        traced: the last; None before.
    """

    def __init__(self, forward: Callable[[Batch], Tensors], one_thread: bool) -> None:
        super().__init__()
        self.one_thread = one_thread
        self.traced: Traced | None = None
        self._forward = forward
        self._calls_summary = self._draws = False
        self._functions: dict[Key, list[tuple[Specs, Traced]]] = {}
        self._ask_sizes: set[Key] = set()
        self._last: tuple[Specs, str] | None = None  # specs, and of which kind they are

    def get(
        self,
        call: Hashable,
        function: Callable[..., tf.Tensor | None],
        specs: Specs,
        *rest: tf.TensorSpec,
        argument: Callable[[Specs], tf.TypeSpec] | None = None,
        batch: Callable[[Tensors], Batch] | None = None,
    ) -> Callable[..., tf.Tensor | None]:
        """Returns a concrete function that takes data of `specs`, traced if there is none yet.

        After `tf.config.run_functions_eagerly(True)` it is `function` itself, which a debugger can enter.

        Args:
            call: the kind of call.
            function: of the data, of `specs`, and of what `rest` describes.
            argument: makes the spec of the function's first argument from the data's, if they differ.
            batch: makes a batch from the data, if it is none itself.
        """
        if tf.config.functions_run_eagerly():
            return tracing_with_global_seed_generator()(function)
        key = self._key(call, specs)
        known = self._functions.get(key, [])
        for taken, traced in known:
            if _covers(taken, specs):
                return traced

        def trace(specs: Specs) -> Traced:
            return self._trace(function, argument(specs) if argument else specs, *rest)

        if known and _differ_beyond_examples(known[0][0], specs):
            forward = self._forward
            _check((lambda data: forward(batch(data))) if batch else forward, specs)
        if known and key not in self._ask_sizes and not self.fixed:
            wide = _widened(known[0][0], specs)
            try:
                traced = trace(wide)
            except (TypeError, ValueError):
                self._ask_sizes.add(key)
            else:
                self._functions[self._key(call, specs)] = [(wide, traced)]
                return traced
        traced = trace(specs)
        self._functions.setdefault(self._key(call, specs), []).append((specs, traced))
        return traced

    def check_open_batch(self, specs: Specs) -> None:
        """Raises UnknownBatchSizeError if a model takes batches of a known size alone, and not of `specs`."""
        if not all(isinstance(spec, tf.TensorSpec) and spec.shape.rank for spec in tensors_in(specs)):
            return
        some = map_tensors(lambda spec: tf.TensorSpec([2, *spec.shape[1:]], spec.dtype), specs)
        try:
            _check(self._forward, some)
        except (TypeError, ValueError):
            return
        raise UnknownBatchSizeError(
            "`data` is a dataset that leaves open how many examples a batch has, and the model asks for "
            "their number: `dataset.batch(..., drop_remainder=True)` says it."
        )

    def _key(self, call: Hashable, specs: Specs) -> Key:
        writer = default_summary_writer() if self._calls_summary else None
        if self._last is None or self._last[0] is not specs:  # to find out takes a while
            self._last = specs, _kind(specs)
        return call, self._last[1], writer, global_seed_generator() if self._draws else None

    def _trace(self, function: Callable[..., tf.Tensor | None], *specs: Specs) -> Traced:
        # AutoGraph would wrap our own errors.
        with executor(self.one_thread):
            traced, drawn = _traced(function, *specs)
        if self.one_thread and nests_calls(traced):
            self.one_thread = False
            self._functions.clear()
            traced, drawn = _traced(function, *specs)
        self._draws = self._draws or drawn
        self._calls_summary = self._calls_summary or calls_summary(traced)
        self.traced = traced
        return traced


def _check(forward: Callable[[Tensors], Tensors], specs: Specs) -> None:
    """Traces a function that is not to run."""
    with recording_disabled():
        _traced(forward, specs)


def _traced(function: Callable[..., Tensors], *specs: Specs) -> tuple[Traced, bool]:
    """The function, traced, and whether it draws from the generator of `keras.random` without a seed."""
    with tracing_with_global_seed_generator() as drawn:
        return tf.function(function, autograph=False).get_concrete_function(*specs), bool(drawn)


def _kind(specs: Specs) -> str:
    """Structure, dtypes and ranks: specs that differ in these need different functions."""

    def kind(spec: tf.TypeSpec) -> object:
        return (spec.dtype.name, spec.shape.rank) if isinstance(spec, tf.TensorSpec) else spec

    return repr(tf.nest.map_structure(kind, specs))


def _covers(known: Specs, specs: Specs) -> bool:
    """Whether a function traced for `known` takes `specs`, which are of the same kind."""
    pairs = zip(tensors_in(known), tensors_in(specs))
    return all(spec.is_subtype_of(wide) for wide, spec in pairs)


def _differ_beyond_examples(known: Specs, specs: Specs) -> bool:
    """Whether specs of the same kind differ in more than the first dimension, which no model checks."""

    def example(spec: tf.TypeSpec) -> object:
        return spec.shape[1:] if isinstance(spec, tf.TensorSpec) and spec.shape.rank else spec

    pairs = zip(tf.nest.flatten(known), tf.nest.flatten(specs))
    return any(example(one) != example(other) for one, other in pairs)


def _widened(known: Specs, specs: Specs) -> Specs:
    """Specs that cover both, which are of the same kind: dimensions that differ are open."""

    def widened(one: tf.TypeSpec | None, other: tf.TypeSpec | None) -> tf.TypeSpec | None:
        return None if one is None else one.most_specific_common_supertype([other])

    return tf.nest.map_structure(widened, known, specs)
