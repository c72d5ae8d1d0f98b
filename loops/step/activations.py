"""What layers give in a watched step: means, deviations, dead units."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from ...optim.naming.stable_names import tree_of
from ..support.layer_outputs import Outputs, outputs_of

QUANTITIES = ("activation_mean", "activation_std", "dead_units")


class Activations:
    """Measures the outputs of layers over a batch, on all replicas together.

        with activations.noted() as outputs:        # in the forward pass, on each replica
            run the model
        sums = activations.sums(outputs)
        activations.keep(sums over replicas)

    The mean and the standard deviation are over all numbers that a layer gives. A unit, an element of the
    last axis, is dead if it is at most 0 for every example and at every position. A layer that is called
    several times is measured over all its calls; of several outputs, the first one.

    Args:
        model: that runs.
        paths: stable names of its layers.
    """

    def __init__(self, model: keras.Model, paths: Sequence[str]) -> None:
        layers = {node.path: node.layer for node in tree_of(model).nodes}
        self._layers = {path: layers[path] for path in paths}
        self._values = tf.Variable(tf.zeros([len(paths), len(QUANTITIES)], tf.float64), trainable=False)
        self._seen: list[str] = []  # as the forward pass was traced

    @contextlib.contextmanager
    def noted(self) -> Iterator[Outputs]:
        """Takes down what the layers give in the body."""
        with outputs_of(self._layers.values()) as outputs:
            yield outputs

    def sums(self, outputs: Outputs) -> list[tf.Tensor]:
        """A vector of sums for each layer that gave something: float64, (3 + units,)."""
        calls = {path: outputs[id(layer)] for path, layer in self._layers.items()}
        self._seen = [path for path, given in calls.items() if given]
        return [_sums(calls[path]) for path in self._seen]

    def keep(self, totals: Sequence[tf.Tensor]) -> None:
        """Sets what `read` returns, from the sums over replicas."""
        rows = dict(zip(self._seen, map(_row, totals)))
        none = tf.fill([len(QUANTITIES)], tf.constant(math.nan, tf.float64))
        self._values.assign(tf.stack([rows.get(path, none) for path in self._layers]), read_value=False)

    def read(self) -> dict[str, dict[str, float]]:
        """Path of the layer -> tag -> number, of the last step; without layers that gave nothing."""
        rows = zip(self._layers, self._values.numpy().tolist())
        return {
            path: {f"{quantity}/{path}": number for quantity, number in zip(QUANTITIES, row)}
            for path, row in rows
            if path in self._seen
        }

    def missing(self) -> list[str]:
        """The layers that gave nothing, nor did one around them; nobody calls an `InputLayer`."""
        around = tuple(f"{path}/" for path in self._seen)
        return [
            path
            for path, layer in self._layers.items()
            if path not in self._seen
            and not (path.startswith(around) or isinstance(layer, keras.layers.InputLayer))
        ]


def _sums(given: Sequence[tf.Tensor]) -> tf.Tensor:
    """How many numbers, their sum and that of their squares, then for each unit how often it was above 0."""
    last = given[0].shape[-1] if given[0].shape.rank else None
    return tf.add_n([_sums_of(value) for value in given if value.shape.rank == 0 or value.shape[-1] == last])


def _sums_of(value: tf.Tensor) -> tf.Tensor:
    value = value if value.dtype == tf.float64 else tf.cast(value, tf.float32)
    mean = tf.reduce_mean(value)
    variance = tf.cast(tf.reduce_mean(tf.math.squared_difference(value, mean)), tf.float64)
    count, mean = tf.cast(tf.size(value), tf.float64), tf.cast(mean, tf.float64)
    # With one number an example, or an open last axis, all are of one unit.
    units = value.shape[-1] if value.shape.rank > 1 and value.shape[-1] else 1
    above = tf.reduce_any(tf.reshape(~(value <= 0), [-1, units]), 0)  # NaN is not dead
    return tf.concat(
        [tf.stack([count, count * mean, count * (variance + mean**2)]), tf.cast(above, tf.float64)], 0
    )


def _row(total: tf.Tensor) -> tf.Tensor:
    """The numbers of `QUANTITIES` from sums."""
    mean, square = total[1] / total[0], total[2] / total[0]
    deviation = tf.sqrt(tf.maximum(square - mean**2, 0.0))
    return tf.stack([mean, deviation, tf.reduce_mean(tf.cast(total[3:] <= 0, tf.float64))])
