"""Filters: predicates over a model's variables, and their algebra `|`, `&`, `~`.

A filter sees the whole model at once (its `ModelTree`) and answers with one bool for each variable, because
some, like `last_layers`, cannot be decided variable by variable. `as_filter` turns whatever a user may write
as a filter into one.
"""

from __future__ import annotations

import abc
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Union

import keras

from ..common.messages import short_repr
from ..naming.model_tree import ModelTree, VariableInfo
from .patterns import SelectionError


class Filter(abc.ABC):
    """Chooses variables of a model; combine with `|` (either), `&` (both), `~` (all others).

    Strings, regexes and layer classes may stand on either side of `|` and `&`.

    For a filter of your own, a function from `VariableInfo` to bool is enough if it can judge each variable
    alone. If it needs all of them, derive a class and define `mask`.

    Example:
        >>> name("conv") & ~kind("bias") | keras.layers.Dense
        ((name('conv') & ~kind('bias')) | layer_type(Dense))
        >>> class Largest(Filter):
        ...     def mask(self, tree):
        ...         sizes = [np.prod(info.variable.shape) for info in tree.infos]
        ...         return [size == max(sizes) for size in sizes]
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(9, name="body"),
        ...                           keras.layers.Dense(2, name="head")], name="net")
        >>> [v.path for v in select(model, Largest() | "head")]
        ['net/body/kernel', 'net/head/kernel', 'net/head/bias']
    """

    @abc.abstractmethod
    def mask(self, tree: ModelTree) -> list[bool]:
        """Says which variables of a model the filter matches.

        Args:
            tree: the model, `tree.model`, and its variables: `tree.infos` has a `VariableInfo` for each.

        Returns:
            One bool for each variable, in the order of `tree.infos`.
        """

    def hint(self, tree: ModelTree) -> str:
        """What the error adds when the filter matches nothing; a filter of your own may leave it out.

        Args:
            tree: the model and its variables, as for `mask`.

        Returns:
            A sentence that starts with a space, or an empty string.
        """
        return ""

    @property
    def is_text(self) -> bool:
        """Whether it is text that names something.

        Text that names nothing is a typo, so an error wherever it stands. Any other filter may match nothing
        beside one that matches something.
        """
        return False

    def __or__(self, other: FilterLike) -> Filter:
        return _Either(self, as_filter(other))

    def __ror__(self, other: FilterLike) -> Filter:
        return _Either(as_filter(other), self)

    def __and__(self, other: FilterLike) -> Filter:
        return _Both(self, as_filter(other))

    def __rand__(self, other: FilterLike) -> Filter:
        return _Both(as_filter(other), self)

    def __invert__(self) -> Filter:
        return _Not(self)

    def __bool__(self) -> bool:
        # `name("a") and name("b")` would be the second one alone.
        raise TypeError("combine filters with `|`, `&` and `~`, not with `or`, `and` and `not`")


#: What may be written as a filter: text at words of a name, a glob such as `"block5*"`, a compiled regex, a
#: layer class, a layer, a function from `VariableInfo` to bool, or a `Filter`. `optim.select` says what each
#: of them finds.
FilterLike = Union[
    Filter, str, "re.Pattern[str]", type, types.UnionType, keras.layers.Layer, Callable[[VariableInfo], bool]
]


Conversion = Callable[[object], Filter | None]
_CONVERSIONS: list[Conversion] = []


def converts(conversion: Conversion) -> Conversion:
    """Decorator: `as_filter` tries this function too. It returns None for what it does not convert.

    So each module that defines filters says what users may write for them, and this one imports none of them.
    """
    _CONVERSIONS.append(conversion)
    return conversion


def as_filter(spec: FilterLike) -> Filter:
    """Turns whatever may be written as a filter into a `Filter`: what `FilterLike` lists; else TypeError."""
    if isinstance(spec, Filter):
        return spec
    for conversion in _CONVERSIONS:
        converted = conversion(spec)
        if converted is not None:
            return converted
    hint = ""
    if isinstance(spec, (list, tuple, set)):
        hint = "; pass the filters one by one: `select(model, *filters)`"
    raise TypeError(
        "`filters` must be strings, compiled regexes, layer classes, layers, callables on "
        f"VariableInfo or filters of gradloop.optim, got {short_repr(spec)} of type {type(spec).__name__}"
        f"{hint}"
    )


@dataclass(frozen=True, repr=False)
class _Two(Filter):
    left: Filter
    right: Filter

    def pairs(self, tree: ModelTree) -> Iterator[tuple[bool, bool]]:
        """Both answers for each variable."""
        return zip(self.left.mask(tree), self.right.mask(tree))


class _Either(_Two):
    def mask(self, tree: ModelTree) -> list[bool]:
        return [left or right for left, right in self.pairs(tree)]

    def hint(self, tree: ModelTree) -> str:
        return "".join(dict.fromkeys([self.left.hint(tree), self.right.hint(tree)]))

    def __repr__(self) -> str:
        return f"({self.left!r} | {self.right!r})"


class _Both(_Two):
    def mask(self, tree: ModelTree) -> list[bool]:
        return [left and right for left, right in self.pairs(tree)]

    def hint(self, tree: ModelTree) -> str:
        left, right = sum(self.left.mask(tree)), sum(self.right.mask(tree))
        return f" Its sides match {left} and {right} variables, none in common."

    def __repr__(self) -> str:
        return f"({self.left!r} & {self.right!r})"


@dataclass(frozen=True, repr=False)
class _Not(Filter):
    negated: Filter

    def mask(self, tree: ModelTree) -> list[bool]:
        return [not hit for hit in self.negated.mask(tree)]

    def hint(self, tree: ModelTree) -> str:
        return f" Every variable matches {self.negated!r}."

    def __repr__(self) -> str:
        return f"~{self.negated!r}"


def nonempty_mask(spec: Filter, tree: ModelTree) -> list[bool]:
    """The mask of a filter that must match something as a whole; else SelectionError."""
    mask = spec.mask(tree)
    if not any(mask):
        raise nothing_matched(spec, tree)
    return mask


def nothing_matched(spec: Filter, tree: ModelTree) -> SelectionError:
    """The error for a filter that matches nothing; of two that must both match, for the one that does not."""
    for side in (spec.left, spec.right) if isinstance(spec, _Both) else ():
        if not any(side.mask(tree)):
            return nothing_matched(side, tree)
    return SelectionError(
        f"{spec!r} matches none of the {len(tree.infos)} variables of model "
        f"{tree.model.name!r}.{spec.hint(tree)} `print(optim.summary(model))` lists their names"
    )
