"""Metrics that make their variables at the first update, such as F1Score and R2Score.

A step needs them before: to save them, to put them back, and on replicas, where TensorFlow makes none.
"""

from __future__ import annotations

import contextlib

import keras
import tensorflow as tf

from ...optim.common.types import Batch, Tensors
from ..data.arrays import map_tensors
from ..data.batches import BatchIterator, DataIterator
from ..support.keras_private import has_late_variables
from ..support.tensorflow_private import scratch_graph
from .loss_and_metrics import LossAndMetrics


def build_metrics(loss_and_metrics: LossAndMetrics, source: DataIterator | Batch | None = None) -> None:
    """Makes the variables that metrics lack, with their initial values.

    Args:
        source: a batch, or an iterator of batches; None where none is known, for targets of the shape of the
            model's output.
    """
    late = [metric for metric in loss_and_metrics.stateful_metrics if has_late_variables(metric)]
    if not late:
        return
    with scratch_graph():
        if source is not None:
            loss_and_metrics(_batch_of(source), training=False)
            return
        for metric in late:
            # A guess: where a model or metric wants something else, the first batch tells.
            with contextlib.suppress(Exception):
                spec = _output_of(loss_and_metrics.model)
                metric.update_state(_placeholder(spec), _placeholder(spec))


def _batch_of(source: DataIterator | Batch) -> Batch:
    """A batch of placeholders."""
    if isinstance(source, BatchIterator):
        data = source.batches
        indices = _placeholder(tf.TensorSpec([data.batch_size], tf.int64))
        return data.reader.gather(data.arrays, indices, 0, 0, 0)
    if isinstance(source, tf.data.Iterator):
        return map_tensors(_placeholder, source.element_spec)
    return map_tensors(lambda tensor: _placeholder(tf.type_spec_from_value(tensor)), source)


def _output_of(model: keras.Model) -> tf.TensorSpec:
    """The spec of a model's output; raises if it has several or is not known."""
    if getattr(model, "outputs", None):
        (output,) = model.outputs
    else:
        _, *example = model.get_build_config()["input_shape"]
        output = model(_placeholder(tf.TensorSpec([None, *example], model.compute_dtype)), training=False)
    return tf.TensorSpec(output.shape, output.dtype)


def _placeholder(spec: tf.TypeSpec) -> Tensors:
    """A tensor of a spec, sparse and ragged ones made of those of their components."""
    parts = [
        tf.compat.v1.placeholder(part.dtype, part.shape)
        for part in tf.nest.flatten(spec, expand_composites=True)
    ]
    return tf.nest.pack_sequence_as(spec, parts, expand_composites=True)
