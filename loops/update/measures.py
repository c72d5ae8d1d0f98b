"""Measurements of an update: learning rates, and norms of gradients, weights and their changes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Container, Iterator, Sequence

import keras
import tensorflow as tf

from ...optim import GroupedOptimizer
from ...optim.common.types import Array, Gradient, Scalar
from ...optim.gradients.given import is_new_value
from ...optim.private.keras_private import RateOf
from .histograms import Histograms

QUANTITIES = ("rate", "grad_norm", "weight_norm", "update_ratio")
# Squares of a tensor of up to this many elements are added in float64, which is slow for larger ones.
_SMALL_SIZE = 1 << 16


class Measures:
    """Measures an update on the device, into one vector that can be read afterwards.

        measures.reset()                        # at the start of a step, which may be skipped
        with measures.around(gradients):        # summed, not scaled, not clipped
            clip and apply

    Everything is measured for each group of a `GroupedOptimizer`'s plan and for each variable. Without a
    plan, all variables are one group, `all`. Scales of float8 layers are left out: they have no gradients.

    Args:
        optimizer: without the loss scale around it.
        variables: the updated variables by name, in the order of the gradients.
        clip_norm: as for `Update`.
        histograms: names of the variables whose weights and gradients become histograms.
        retraces: whether the traced update leaves frozen groups out; otherwise they are measured as NaN.
        rate_of: as for `ClipAndApply`.

    Attributes:
        groups: the names of the groups that these variables belong to, in the plan's order.
        names: of the variables that are measured.
        values: float64 vector: each of `QUANTITIES` for each group and variable, the norm of all gradients,
            whether they were clipped, and 1; all NaN without an update.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: dict[str, keras.Variable],
        clip_norm: float | None,
        retraces: bool,
        histograms: Container[str] = (),
        rate_of: RateOf | None = None,
    ) -> None:
        self._retraces = retraces
        self._actual_rate = rate_of
        self._optimizer = optimizer
        self._clip_norm = clip_norm
        measured = {index: item for index, item in enumerate(variables.items()) if not is_new_value(item[1])}
        self._positions = list(measured)
        self.names = [name for name, _ in measured.values()]
        self._variables = [variable for _, variable in measured.values()]
        group_of, names = [0] * len(measured), ["all"]
        if isinstance(optimizer, GroupedOptimizer):
            group_of = [member.group for member in optimizer.grouped_update.members_of(self._variables)]
            names = list(optimizer.plan.groups)
        present = sorted(set(group_of))
        self.groups = [names[group] for group in present]
        self._segments = [present.index(group) for group in group_of]
        self._rate_of = [*present, *group_of]
        self._counted = [index for index, name in enumerate(self.names) if name in histograms]
        tags = [f"{what}/{self.names[index]}" for what in ("weights", "gradients") for index in self._counted]
        self.histograms = Histograms(tags) if tags else None
        self._size = len(QUANTITIES) * len(self._rate_of) + 3
        self.values = tf.Variable(tf.fill([self._size], self._nan), trainable=False)

    @property
    def _nan(self) -> tf.Tensor:
        return tf.constant(math.nan, tf.float64)

    def reset(self) -> None:
        """Sets everything to NaN."""
        self.values.assign(tf.fill([self._size], self._nan), read_value=False)

    @contextlib.contextmanager
    def around(self, gradients: Sequence[Gradient]) -> Iterator[None]:
        """Measures the update that the body makes.

        Args:
            gradients: before the body clips them; sparse ones with each row once.
        """
        if not self._variables:
            yield
            return
        gradients = [gradients[position] for position in self._positions]
        rates = tf.gather(self._rates(), self._rate_of)
        before = [tf.convert_to_tensor(variable.value) for variable in self._variables]
        squares, old = _squares(gradients), _squares(before)
        if self.histograms is not None:
            self.histograms.count([each[index] for each in (before, gradients) for index in self._counted])
        yield
        after = [tf.convert_to_tensor(variable.value) for variable in self._variables]
        change = self._norms(_squares([new - value for new, value in zip(after, before)]))
        weights, norms = self._norms(old), self._norms(squares)
        # The ratio is not defined for weights that are all zero.
        ratios = tf.where(weights > 0, change / weights, self._nan)
        total = tf.sqrt(tf.reduce_sum(squares))
        clipped = tf.cast(self._clipped(gradients, tf.sqrt(squares), total), tf.float64)
        columns = self._mask_frozen([rates, norms, weights, ratios])
        one = tf.constant([1.0], tf.float64)
        self.values.assign(tf.concat([*columns, [total, clipped], one], 0), read_value=False)

    def _mask_frozen(self, columns: list[tf.Tensor]) -> list[tf.Tensor]:
        """The columns, with NaN for groups (and their variables) that are frozen when this runs."""
        if self._retraces or not isinstance(self._optimizer, GroupedOptimizer):
            return columns
        trains = tf.gather(self._optimizer.grouped_update.groups_training(), self._rate_of)
        return [tf.where(trains, column, self._nan) for column in columns]

    def _norms(self, squares: tf.Tensor) -> tf.Tensor:
        """The norm of each group, then of each variable, from the sums of squares of variables."""
        groups = tf.math.unsorted_segment_sum(squares, self._segments, len(self.groups))
        return tf.sqrt(tf.concat([groups, squares], 0))

    def _rates(self) -> tf.Tensor:
        """The rate of each group of the plan in this update."""
        rates: list[Scalar]
        if isinstance(self._optimizer, GroupedOptimizer):
            rates = self._optimizer.grouped_update.rates(self._optimizer)
        else:
            # A `MultiOptimizer` has no single rate.
            rate = getattr(self._optimizer, "learning_rate", None)
            rates = [tf.constant(math.nan) if rate is None else tf.convert_to_tensor(rate)]
        if self._actual_rate is not None:
            rates = [self._actual_rate(rate) for rate in rates]
        return tf.stack([tf.cast(rate, tf.float64) for rate in rates])

    def _clipped(self, gradients: Sequence[Gradient], norms: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        """Whether `clip_norm`, or a limit of the optimizer after it, changes the gradients: scalar bool."""
        clipped, factor = tf.constant(False), tf.constant(1.0, tf.float64)
        if self._clip_norm is not None:
            clipped = total > self._clip_norm
            factor = tf.where(clipped, self._clip_norm / total, factor)
        # In the order of `clip_as_set`.
        optimizer = self._optimizer
        if (optimizer.clipnorm or 0) > 0:
            return clipped | tf.reduce_any(norms * factor > optimizer.clipnorm)
        if (optimizer.global_clipnorm or 0) > 0:
            return clipped | (total * factor > optimizer.global_clipnorm)
        if (optimizer.clipvalue or 0) > 0:
            values = [getattr(gradient, "values", gradient) for gradient in gradients]
            largest = tf.stack([tf.cast(tf.reduce_max(tf.abs(value)), tf.float64) for value in values])
            return clipped | (tf.reduce_max(largest) * factor > optimizer.clipvalue)
        return clipped

    def tensors(self) -> dict[str, Scalar]:
        """Tag -> scalar for each group, from the current `values`."""
        numbers = tf.unstack(tf.convert_to_tensor(self.values), self._size)
        width = len(self._rate_of)  # groups, then variables, whose names may be those of groups
        rows = [(quantity, numbers[row * width :]) for row, quantity in enumerate(QUANTITIES)]
        tagged = {f"{quantity}/{name}": n for quantity, row in rows for name, n in zip(self.groups, row)}
        return tagged | {"grad_norm/all": numbers[-3], "clipped/all": numbers[-2]}

    def scalars(self, values: Array, of: str | Container[str]) -> dict[str, float]:
        """Tag -> number, from a copy of `values`; quantities that were not measured are left out.

        Args:
            of: "groups", or the names of variables.
        """
        if values[-1] != 1.0:
            return {}
        units = [*enumerate(self.groups)]
        if of != "groups":
            units = [(index, name) for index, name in enumerate(self.names, len(self.groups)) if name in of]
        columns = values[:-3].reshape(len(QUANTITIES), -1)
        scalars = {}
        for quantity, column in zip(QUANTITIES, columns):
            # An unknown rate, and the ratio for weights that are all zero, are NaN.
            always = quantity in ("grad_norm", "weight_norm")
            numbers = [(name, float(column[index])) for index, name in units]
            scalars.update({f"{quantity}/{n}": v for n, v in numbers if always or not math.isnan(v)})
        return scalars | {"grad_norm/all": float(values[-3]), "clipped/all": float(values[-2])}


def _squares(values: Sequence[Gradient]) -> tf.Tensor:
    """The sum of squares of each tensor: float64, (tensors,)."""

    def half(value: tf.Tensor) -> tf.Tensor:
        small = value.shape.num_elements() is not None and value.shape.num_elements() <= _SMALL_SIZE
        if small or value.dtype == tf.float64:
            return tf.nn.l2_loss(tf.cast(value, tf.float64))
        return tf.cast(tf.nn.l2_loss(tf.cast(value, tf.float32)), tf.float64)

    return 2.0 * tf.stack([half(getattr(value, "values", value)) for value in values])
