"""Settings that are changed after the optimizer was made: taken over, or refused."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import keras

from ..common.messages import first_few
from ..common.optimizers import FOLLOWED_SETTINGS, SHARED_SETTINGS, overridden
from ..groups.group import check_no_shared_settings
from ..groups.plan import Plan
from ..private.keras_private import uses_weight_decay
from ..private.optimizer_copies import lost_settings, settings_of
from ..updates.base import GroupedVariable, Updater
from ..updates.fused_updater import FusedUpdater
from ..updates.keras_updater import KerasUpdater
from ..updates.settings import Settings
from ..updates.tensorflow_ops import update_op_for
from .assign_updaters import averaging_of, decay_of, grouped_variables

_DONE_EARLY = ("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor")
_OF_STATE = ("use_ema", "gradient_accumulation_steps")
# What a `GroupedOptimizer` has in the place of the optimizer that it wraps.
FOLLOWED = tuple(name for name in (*SHARED_SETTINGS, *FOLLOWED_SETTINGS) if name not in _OF_STATE)


class FollowedSettings:
    """The settings of a wrapped optimizer and of those of groups, read anew for each update.

    `apply` of a Keras optimizer does so, wherever it is not a part of a traced function.
    """

    def __init__(self, plan: Plan, optimizer: keras.optimizers.Optimizer) -> None:
        self._groups = list(plan.groups.values())
        own = [group.optimizer for group in self._groups if group.optimizer is not None]
        self.optimizers = [optimizer, *own]
        self._as_made = _taken_over(optimizer)
        self._settings: Settings | None = None

    def follow(
        self, plan: Plan, outer: keras.optimizers.Optimizer, updaters: Sequence[Updater]
    ) -> dict[str, GroupedVariable] | None:
        """Has updaters take what has changed since the last call, and returns the plan's variables with it.

        None if nothing has changed. `outer` is the `GroupedOptimizer`.

        Raises:
            ValueError: settings that need other state, or that belong to `outer`.
        """
        settings = self._settings or Settings([outer, *self.optimizers])
        if not settings.changed():
            return None
        self._settings = None  # refused settings are refused again by the next call
        optimizer = self.optimizers[0]
        for name, value in _taken_over(optimizer).items():
            if value != self._as_made[name]:
                raise ValueError(
                    f"`{name}` of the {type(optimizer).__name__} that {outer.name!r} wraps was set to "
                    f"{value!r} after it was wrapped: set it on the GroupedOptimizer, "
                    f"`optimizer.{name} = {value!r}`"
                )
        for group in self._groups:
            check_no_shared_settings(group.optimizer)
        for one in self.optimizers:
            _check_order(one, outer)
        members, averaging = grouped_variables(plan, optimizer, outer), averaging_of(outer)
        for updater in updaters:
            mine = [members[member.name] for member in updater.members]
            group = self._groups[mine[0].group]
            template = group.optimizer or optimizer
            if isinstance(updater, FusedUpdater):
                updater.follow(update_op_for(template, mine[0].variable.dtype), averaging)
            elif isinstance(updater, KerasUpdater):
                now = settings_of(template)
                if group.optimizer is None:
                    now["weight_decay"] = outer.weight_decay
                updater.follow(now, *decay_of(group, template, mine, outer), averaging)
        self._settings = settings
        return members

    def exempt(self, plan: Plan, outer: keras.optimizers.Optimizer) -> list[str]:
        """The names of variables that `exclude_from_weight_decay` of an optimizer excludes."""
        group_of, names = plan.group_of, []
        for name, variable in plan.variables.items():
            template = plan.groups[group_of[name]].optimizer or self.optimizers[0]
            if not all(uses_weight_decay(one, variable, template) for one in (template, outer)):
                names.append(name)
        return names


def _check_order(optimizer: keras.optimizers.Optimizer, outer: keras.optimizers.Optimizer) -> None:
    """Raises ValueError for a method of the user's own that Keras calls around what is done before it."""
    methods = ("apply_gradients", "apply", "_backend_apply_gradients", "_clip_gradients")
    own = overridden(type(optimizer), keras.optimizers.Optimizer, methods)
    early = [name for name in _DONE_EARLY if getattr(outer, name)]
    if own and early:
        raise ValueError(
            f"`optimizer` {type(optimizer).__name__} has a method `{own[0]}` of its own, and "
            f"`{early[0]}={getattr(outer, early[0])!r}` would act before it on all groups together, not "
            f"within it as in Keras: leave `{early[0]}` out, and do what it does in the method or by "
            "`loops.Update`"
        )


def check_set(optimizer: keras.optimizers.Optimizer, name: str, value: object, traced: bool) -> None:
    """Checks an attribute of a `GroupedOptimizer` that is set after it was made.

    Warns if functions were traced that have the old value. (`loops.TrainStep` traces again by itself.)

    Raises:
        ValueError: a setting that decides which state there is.
    """
    if name in _OF_STATE and value != getattr(optimizer, name):
        raise ValueError(
            f"`{name}` cannot be set to {value!r} on {optimizer.name!r}, whose state is made already: set it "
            "on the optimizer that is wrapped, and wrap that anew"
        )
    if traced and (name in FOLLOWED or name == "_exclude_from_weight_decay"):
        warnings.warn(
            f"optimizer {optimizer.name!r} was given another {name.lstrip('_')!r}, which functions that were "
            "traced before do not follow: trace them again (for `fit`, call `model.compile` again; a "
            "`loops.TrainStep` does so by itself)",
            stacklevel=4,
        )


def warn_of_lost(wrapped: Sequence[keras.optimizers.Optimizer]) -> None:
    """Warns of settings that files and copies of optimizers do not hold."""
    for optimizer in wrapped:
        lost = lost_settings(optimizer)
        if lost:
            warnings.warn(
                f"files and copies do not hold {first_few(lost)} of the {type(optimizer).__name__} in a "
                "GroupedOptimizer: return it in `get_config`, and take it in the constructor",
                stacklevel=3,
            )


def _taken_over(optimizer: keras.optimizers.Optimizer) -> dict[str, object]:
    """The settings of a wrapped optimizer that are its wrapper's from then on."""
    return {name: getattr(optimizer, name) for name in (*SHARED_SETTINGS, *FOLLOWED_SETTINGS)}
