"""One group of variables: what it holds, and how it is updated."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Union

import keras

from ..common.arguments import real_number, true_or_false
from ..common.messages import short_repr
from ..common.optimizers import SHARED_SETTINGS, overridden
from ..filters.base import FilterLike, as_filter

LearningRate = Union[float, keras.optimizers.schedules.LearningRateSchedule]


@dataclass(frozen=True)
class KernelDecay:
    """Weight decay by the usual rule: on kernels and embeddings, none on biases, scales and shifts.

    The last component of a variable's name says what it is. Those that do not decay, whatever their shape:

    - a bias: `bias` is a word of it, as in attention's `bias` of (heads, size), or it is `b`;
    - the scale or shift of a normalization, the slope of a `PReLU`: it ends in `gamma`, `beta`, `scale`,
      `shift`, `offset`, `gain` or `alpha`, or is `g`;
    - a token that a layer or model owns (`cls_token`), or its positions (`pos_embed`, `rel_pos_h`); what an
      `Embedding` layer holds decays, positions too.

    A `kernel` or `embeddings` decays. So does any other variable of two dimensions or more; those of one or
    none do not. These are timm's and BEiT's parameter groups. For another choice, make groups of them.

    Args:
        value: the weight decay of the variables that decay, at least 0.

    Raises:
        ValueError: a negative or non-finite `value`.
        TypeError: no number.

    Example:
        >>> decay = KernelDecay(0.05)
        >>> decay.of(keras.Variable([[1.0, 2.0]])), decay.of(keras.Variable([1.0]))
        (0.05, 0.0)
        >>> attention = keras.layers.MultiHeadAttention(2, 4)
        >>> attention.build((None, 3, 8), (None, 3, 8))
        >>> sorted({(info.kind, decay.of(info.variable, info.name)) for info in variable_infos(attention)})
        [('bias', 0.0), ('kernel', 0.05)]

    Reference: timm, `param_groups_weight_decay`; Loshchilov & Hutter 2019, "Decoupled weight decay
    regularization".
    """

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", real_number("value", self.value, at_least=0))

    def of(self, variable: keras.Variable, name: str = "") -> float:
        """The decay of one variable.

        Args:
            variable: built, since its number of dimensions counts.
            name: its stable name, which tells more than its own; "" to judge by its own.
        """
        return self.value if _decays(variable, name.rpartition("/")[2]) else 0.0


_NO_DECAY = re.compile(
    r"(^|_)bias(es)?(_|$)|(^|_)(gamma|beta|scale|shift|offset|gain|alpha|tokens?|cls)$|^[bg]$"
    r"|(^|_)pos[a-z]*_(emb|enc)|(^|_)rel_pos(_|$)",
    re.IGNORECASE,
)
_DECAYS = re.compile(r"(^|_)(kernel|embeddings)$")


def _decays(variable: keras.Variable, kind: str) -> bool:
    """Whether a variable is a kernel, an embedding or the like; `kind` may be empty."""
    # Of two biases of one layer, the attributes are in the stable names.
    names = [re.sub(r"_?[0-9]+$", "", name) for name in (kind, variable.name)]
    if any(map(_NO_DECAY.search, names)):
        return False
    return len(variable.shape) > 1 or any(map(_DECAYS.search, names))


@dataclass(frozen=True)
class Group:
    """Variables that are updated with the same settings.

    Args:
        where: the filter that finds them, as `select` takes it: a word of their names, a glob such as
            `"conv*/kernel"`, a class of layers, `layer_type(Conv2D) & name("conv1")`.
        lr_scale: the group's learning rate as a multiple of the optimizer's, which it then follows.
        learning_rate: the group's own rate, a number or a Keras schedule of the optimizer's updates. It does
            not follow the optimizer's rate. None for `lr_scale` times that.
        weight_decay: decoupled weight decay: each update subtracts `rate * weight_decay * variable`. A number
            for all variables, or `KernelDecay(number)`; None for that of the optimizer.
        frozen: whether the group starts frozen: it is not updated and does not decay.
        optimizer: another Keras optimizer for this group, not built yet; None for the common one. `lr_scale`
            then multiplies its learning rate. Clipping, averages, accumulation and loss scaling are settings
            of the common optimizer.

    Raises:
        TypeError: `where` cannot be a filter, `frozen` is no bool, `optimizer` is no Keras optimizer, or a
            number is of another type.
        ValueError: a negative or non-finite number, `lr_scale` beside `learning_rate`, or an `optimizer` that
            is built or has settings which belong to the common one.

    Example:
        >>> group = Group("conv", lr_scale=0.1, weight_decay=KernelDecay(1e-4))
        >>> group.lr_scale, group.frozen
        (0.1, False)
    """

    where: FilterLike
    _: KW_ONLY
    lr_scale: float = 1.0
    learning_rate: LearningRate | None = None
    weight_decay: float | KernelDecay | None = None
    frozen: bool = False
    optimizer: keras.optimizers.Optimizer | None = None

    def __post_init__(self) -> None:
        as_filter(self.where)
        true_or_false("frozen", self.frozen)
        object.__setattr__(self, "lr_scale", real_number("lr_scale", self.lr_scale, at_least=0))
        if self.learning_rate is not None:
            rate = checked_rate("learning_rate", self.learning_rate)
            object.__setattr__(self, "learning_rate", rate)
            if self.lr_scale != 1.0:
                raise ValueError(
                    f"`lr_scale` is {self.lr_scale} and `learning_rate` is "
                    f"{short_repr(self.learning_rate)}: a group follows the optimizer's rate (`lr_scale`) or "
                    "has one of its own (`learning_rate`); give one of them"
                )
        if self.weight_decay is not None and not isinstance(self.weight_decay, KernelDecay):
            decay = real_number("weight_decay", self.weight_decay, at_least=0)
            object.__setattr__(self, "weight_decay", decay)
        if self.optimizer is None:
            return
        check_optimizer("optimizer", self.optimizer)
        check_no_shared_settings(self.optimizer)

    @property
    def rate_text(self) -> str:
        """The learning rate in words, for tables: `0.003`, `OneCycle`, `x 0.1`."""
        if self.learning_rate is None:
            return f"x {self.lr_scale:.4g}"
        if isinstance(self.learning_rate, float):
            return f"{self.learning_rate:.4g}"
        return type(self.learning_rate).__name__

    @property
    def decay_text(self) -> str:
        """The weight decay in words, for tables."""
        if self.weight_decay is None:
            return "optimizer's" if self.optimizer is None else "its own"
        if isinstance(self.weight_decay, KernelDecay):
            return f"{self.weight_decay.value:.4g} on kernels"
        return f"{self.weight_decay:.4g}"


def checked_rate(name: str, value: LearningRate) -> LearningRate:
    """A learning rate: a number, as a float, or a schedule as it is."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    return real_number(name, value, at_least=0)


def check_no_shared_settings(optimizer: keras.optimizers.Optimizer | None) -> None:
    """Raises ValueError if a group's own optimizer has a setting that belongs to the common one."""
    for setting in SHARED_SETTINGS:
        if getattr(optimizer, setting, None):
            raise ValueError(
                f"`optimizer` of a group has `{setting}={getattr(optimizer, setting)!r}`: it holds for all "
                "groups together, so give it to the optimizer that GroupedOptimizer wraps"
            )
    if optimizer is not None and overridden(type(optimizer), keras.optimizers.Optimizer, ["scale_loss"]):
        raise ValueError(
            f"`optimizer` of a group is a {type(optimizer).__name__} with a `scale_loss` of its own: there "
            "is one loss for all groups together, so override it in the optimizer that GroupedOptimizer wraps"
        )


def check_optimizer(name: str, optimizer: keras.optimizers.Optimizer) -> None:
    """Raises unless `optimizer` is a Keras optimizer that is not built and wraps no other."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"`{name}` must be a Keras optimizer, such as keras.optimizers.AdamW(1e-3), got "
            f"{short_repr(optimizer)}"
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            f"`{name}` is a LossScaleOptimizer: wrap the other way round, "
            "`keras.optimizers.LossScaleOptimizer(optim.GroupedOptimizer(inner, plan))`"
        )
    multi = getattr(keras.optimizers, "MultiOptimizer", None)  # not in every Keras that we support
    if multi is not None and isinstance(optimizer, multi):
        raise ValueError(
            f"`{name}` is a MultiOptimizer, which GroupedOptimizer replaces: give each group its own by "
            "`optim.Group(..., optimizer=...)`"
        )
    if optimizer.built:
        raise ValueError(
            f"`{name}` {optimizer.name!r} is already built over variables: pass a fresh one, such as "
            "`type(optimizer).from_config(optimizer.get_config())`"
        )
