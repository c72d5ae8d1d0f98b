"""The last stages of an update: clip and apply."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import keras

from ...optim import GroupedOptimizer
from ...optim.common.optimizers import inner_optimizer
from ...optim.common.types import Gradient
from ...optim.gradients.clipping import clip_by_global_norm
from ...optim.gradients.given import but_new_values
from ...optim.gradients.replicas import apply_sums
from ...optim.gradients.sparse import without_repeats
from ...optim.private.keras_private import RateOf, takes_rate
from ...optim.updates.plain_optimizer import PlainUpdate, fused_update
from ...optim.updates.settings import Settings
from ..support.keras_private import weight_copies
from .checks import check_loss_scale_settings
from .loss_scale import LossScale
from .measures import Measures


class ClipAndApply:
    """Updates variables with gradients that are summed, unscaled, checked and averaged over calls.

    Args:
        optimizer: a built one, with the loss scale around it if there is one.
        variables: to update, in the order of the gradients.
        scale: the loss scale of the optimizer.
        clip_norm: as for `Update`.
        retraces: whether the caller retraces when other groups of a plan are frozen.
        rate_of: maps the learning rate that is set to the one to use; None to use it as it is.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
        scale: LossScale,
        clip_norm: float | None,
        retraces: bool,
        rate_of: RateOf | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._inner = inner_optimizer(optimizer)
        self._variables = list(variables)
        self._scale = scale
        self._clip_norm = clip_norm
        self._retraces = retraces
        self._rate_of = rate_of
        self._settings = Settings([self._inner])
        self._copies = weight_copies(self._inner)
        self._plain: PlainUpdate | None = None

    def __call__(self, gradients: Sequence[Gradient], measures: Measures | None = None) -> None:
        """Updates the variables; `measures` measures it."""
        gradients = [without_repeats(gradient) for gradient in gradients]
        with contextlib.nullcontext() if measures is None else measures.around(gradients):
            self._apply(self._clipped(gradients))

    def _clipped(self, gradients: list[Gradient]) -> list[Gradient]:
        limit = self._clip_norm
        if limit is None:
            return gradients
        return but_new_values(
            lambda selected: clip_by_global_norm(selected, limit), gradients, self._variables
        )

    def _apply(self, gradients: list[Gradient]) -> None:
        check_loss_scale_settings(self._optimizer)
        if self._settings.changed():  # Keras reads the settings at each trace
            self._plain = fused_update(self._inner, self._variables, self._rate_of)
        if self._plain is not None:
            self._plain(gradients)
        elif isinstance(self._inner, GroupedOptimizer):
            update = self._inner.grouped_update
            pairs = list(zip(update.members_of(self._variables), gradients))
            update.apply(self._inner, pairs, summed=True, retraces=self._retraces, rate_of=self._rate_of)
        else:
            for copies in self._copies:
                copies.renew()
            gradients = self._scale.rescaled(gradients, self._variables)
            rate_of = self._rate_of
            with contextlib.nullcontext() if rate_of is None else takes_rate(self._inner, rate_of):
                apply_sums(self._inner, gradients, self._variables)
