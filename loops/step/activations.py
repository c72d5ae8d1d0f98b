"""Statistics of layer outputs in a watched step: mean, standard deviation, dead units."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from ...optim.naming.stable_names import tree_of
from ..support.layer_outputs import Outputs, record_layer_outputs

QUANTITIES = ("activation_mean", "activation_std", "dead_units")


class Activations:
    """Measures the outputs of layers over a batch, on all replicas together.

        with activations.record_outputs() as outputs:        # in the forward pass, on each replica
            run the model
        sums = activations.sums(outputs)
        activations.store(sums over replicas)

    Mean and standard deviation are over all elements of a layer's output. A unit, an element of the last
    axis, is dead if it is at most 0 for every example and at every position. A layer that is called several
    times is measured over all its calls; of several outputs, the first is measured.

    Args:
        model: the model that runs.
        paths: stable names of the layers to measure.
    """

    def __init__(self, model: keras.Model, paths: Sequence[str]) -> None:
        layers = {node.path: node.layer for node in tree_of(model).nodes}
        self._layers = {path: layers[path] for path in paths}
        self._values = tf.Variable(tf.zeros([len(paths), len(QUANTITIES)], tf.float64), trainable=False)
        self._measured: list[str] = []  # paths with an output, found while tracing

    @contextlib.contextmanager
    def record_outputs(self) -> Iterator[Outputs]:
        """Records the outputs of the layers in the body."""
        with record_layer_outputs(self._layers.values()) as outputs:
            yield outputs

    def sums(self, outputs: Outputs) -> list[tf.Tensor]:
        """A vector of sums for each layer with an output: float64, (3 + units,)."""
        calls = {path: outputs[id(layer)] for path, layer in self._layers.items()}
        self._measured = [path for path, recorded in calls.items() if recorded]
        return [_sums(calls[path]) for path in self._measured]

    def store(self, totals: Sequence[tf.Tensor]) -> None:
        """Stores the sums over replicas for `read`."""
        rows = dict(zip(self._measured, map(_row, totals)))
        none = tf.fill([len(QUANTITIES)], tf.constant(math.nan, tf.float64))
        self._values.assign(tf.stack([rows.get(path, none) for path in self._layers]), read_value=False)

    def read(self) -> dict[str, dict[str, float]]:
        """Path of the layer -> tag -> number, of the last step; without layers that had no output."""
        rows = zip(self._layers, self._values.numpy().tolist())
        return {
            path: {f"{quantity}/{path}": number for quantity, number in zip(QUANTITIES, row)}
            for path, row in rows
            if path in self._measured
        }

    def missing(self) -> list[str]:
        """The layers without an output, except an `InputLayer` and layers inside of a measured one."""
        measured = tuple(f"{path}/" for path in self._measured)
        return [
            path
            for path, layer in self._layers.items()
            if path not in self._measured
            and not (path.startswith(measured) or isinstance(layer, keras.layers.InputLayer))
        ]


def _sums(outputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Count, sum and sum of squares of the elements; then for each unit, in how many calls it was above 0."""
    units = outputs[0].shape[-1] if outputs[0].shape.rank else None
    return tf.add_n(
        [_sums_of(value) for value in outputs if value.shape.rank == 0 or value.shape[-1] == units]
    )


def _sums_of(value: tf.Tensor) -> tf.Tensor:
    value = value if value.dtype == tf.float64 else tf.cast(value, tf.float32)
    mean = tf.reduce_mean(value)
    variance = tf.cast(tf.reduce_mean(tf.math.squared_difference(value, mean)), tf.float64)
    count, mean = tf.cast(tf.size(value), tf.float64), tf.cast(mean, tf.float64)
    # With one number per example, or a last axis of unknown size, all are one unit.
    units = value.shape[-1] if value.shape.rank > 1 and value.shape[-1] else 1
    above = tf.reduce_any(tf.reshape(~(value <= 0), [-1, units]), 0)  # NaN is not dead
    return tf.concat(
        [tf.stack([count, count * mean, count * (variance + mean**2)]), tf.cast(above, tf.float64)], 0
    )


def _row(total: tf.Tensor) -> tf.Tensor:
    """The values of `QUANTITIES`, from `_sums`."""
    mean, square = total[1] / total[0], total[2] / total[0]
    deviation = tf.sqrt(tf.maximum(square - mean**2, 0.0))
    return tf.stack([mean, deviation, tf.reduce_mean(tf.cast(total[3:] <= 0, tf.float64))])
