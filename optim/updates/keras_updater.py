"""A part of the plan that a Keras optimizer updates by its own `update_step`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from ..gradients.replicas import apply_sums, when
from ..gradients.sparse import Gradient
from ..private.keras_private import raw_learning_rate
from .base import Averaging, GroupedVariable, UpdateContext, Updater, Work

# What holds for all groups together, and is done once by the optimizer around them.
_COMMON = (
    *("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"),
    "gradient_accumulation_steps",
)


class KerasUpdater(Updater):
    """The variables of one group under a Keras optimizer of their own, driven with the group's rate.

    One optimizer a group, because some (Nadam) hold state that every call moves on, and all decay weights by
    their own rate.

    Args:
        optimizer: the optimizer to copy.
        members: variables of one group.
        decay: the group's weight decay; None for what `optimizer` has.
        exempt: variables that do not decay.
        averaging: averages to keep; None for none.
    """

    fused = False

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        members: Sequence[GroupedVariable],
        decay: float | None,
        exempt: Sequence[keras.Variable],
        averaging: Averaging | None,
    ) -> None:
        self.members = members
        self._rate: Any = 0.0
        self._settable = isinstance(raw_learning_rate(optimizer), float)
        # Adafactor looks at whether its rate is a number, so a number stays one.
        # In `.h5` files each variable needs a path of its own, and the copies' counters have one name.
        with keras.name_scope(f"group_{members[0].group}"):
            self._optimizer = _copy(optimizer, 0.0 if self._settable else self._current_rate)
        settings: dict[str, Any] = dict.fromkeys(_COMMON)
        if averaging is not None:
            settings |= {"use_ema": True, "ema_momentum": averaging.momentum}
            settings["ema_overwrite_frequency"] = averaging.overwrite_every
        if decay is not None:
            settings["weight_decay"] = decay
            if hasattr(self._optimizer, "adam_weight_decay"):
                settings["adam_weight_decay"] = decay
        for name, value in settings.items():
            setattr(self._optimizer, name, value)
        if exempt:
            self._optimizer.exclude_from_weight_decay(var_list=list(exempt))
        with _recorded(self._optimizer) as slots:
            self._optimizer.build([member.variable for member in members])
        self._state = _named(self._optimizer, slots, {id(m.variable): m.name for m in members})

    @property
    def iterations(self) -> Any:
        """How many updates the group has had."""
        return self._optimizer.iterations

    def state(self) -> dict[str, keras.Variable]:
        return self._state

    def apply(self, work: Work, moment: UpdateContext) -> None:
        group = work[0][0].group
        apply = partial(self._apply, work, moment.rates[group])
        if moment.active is None:
            apply()
        else:
            when(moment.active[group], apply)

    def _apply(self, work: Work, rate: tf.Tensor) -> None:
        variables = [member.variable for member, _ in work]
        gradients = [gradient for _, gradient in work]

        def on_one(gradients: Sequence[Gradient], rate: tf.Tensor) -> None:
            if self._settable:
                self._optimizer.learning_rate = rate
            else:
                self._rate = rate
            apply_sums(self._optimizer, gradients, variables)

        if tf.distribute.in_cross_replica_context():
            tf.distribute.get_strategy().extended.call_for_each_replica(on_one, args=(gradients, rate))
        else:
            on_one(gradients, rate)

    def _current_rate(self) -> Any:
        return self._rate


def _copy(optimizer: keras.optimizers.Optimizer, learning_rate: Any) -> keras.optimizers.Optimizer:
    """A fresh optimizer of the same settings.

    Raises:
        ValueError: `get_config` of an optimizer of the user's own leaves settings out.
    """
    copy = type(optimizer).from_config(optimizer.get_config() | {"learning_rate": learning_rate})
    plain = (bool, int, float, str, type(None))
    lost = [
        name
        for name, value in vars(optimizer).items()
        if isinstance(value, plain) and not name.startswith("_") and vars(copy).get(name) != value
    ]
    # Keras' own settings can be set; the constructor of a subclass need not pass them on.
    for name in [name for name in lost if name in vars(keras.optimizers.SGD())]:
        setattr(copy, name, getattr(optimizer, name))
        lost.remove(name)
    if lost:
        raise ValueError(
            f"`optimizer` {type(optimizer).__name__} cannot be copied for each group: its `get_config` "
            f"leaves out {', '.join(lost)}. Return them there and take them in the constructor"
        )
    return copy


@contextmanager
def _recorded(optimizer: keras.optimizers.Optimizer) -> Iterator[dict[int, tuple[keras.Variable, str]]]:
    """Records which state variables the optimizer makes for which variable, under which name.

    Yields:
        id of the state variable -> (the model's variable, the slot's name).
    """
    slots: dict[int, tuple[keras.Variable, str]] = {}
    add = optimizer.add_variable_from_reference

    def recording(reference_variable: Any, name: Any = None, *args: Any, **settings: Any) -> Any:
        made = add(reference_variable, name, *args, **settings)
        slots[id(made)] = (reference_variable, name or "var")
        return made

    optimizer.add_variable_from_reference = recording
    try:
        yield slots
    finally:
        del optimizer.add_variable_from_reference


def _named(
    optimizer: keras.optimizers.Optimizer,
    slots: dict[int, tuple[keras.Variable, str]],
    names: dict[int, str],
) -> dict[str, keras.Variable]:
    """The optimizer's state by stable names.

    A state variable that was not made from a reference belongs to the variable whose slot comes next (the
    rows and columns of Adafactor); one at the end is in common to all (the product of Nadam).

    Raises:
        ValueError: several of the latter, which nothing tells apart.
    """
    named: dict[str, keras.Variable] = {}
    waiting: list[keras.Variable] = []

    def put(name: str, variable: keras.Variable) -> None:
        again = sum(known == name or known.startswith(f"{name}_") for known in named)
        named[f"{name}_{again}" if name in named else name] = variable

    for variable in optimizer.variables:
        if variable is optimizer.iterations or variable.name == "learning_rate":
            continue
        waiting.append(variable)
        if id(variable) in slots:
            reference, slot = slots[id(variable)]
            for index, extra in enumerate(waiting[:-1]):
                put(f"{names[id(reference)]}/extra_{index}", extra)
            put(f"{names[id(reference)]}/{slot}", variable)
            waiting = []
    if len(waiting) > 1:
        raise ValueError(
            f"`optimizer` {type(optimizer).__name__} makes state that belongs to no variable "
            f"({', '.join(variable.name for variable in waiting)}), so it cannot be kept by name: make it in "
            "`build` with `add_variable_from_reference(variable, name)`"
        )
    for variable in waiting:
        # In common to the group; known by the variable whose name comes first, whatever their order.
        put(f"{min(names.values())}/shared", variable)
    return named
