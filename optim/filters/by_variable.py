"""Filters that look at one variable at a time: its name, its kind, the class of its layer, a callable."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from ..common.messages import first_few
from ..naming.model_tree import ModelTree, VariableInfo
from .base import Filter, converts, nothing_matched
from .patterns import SelectionError, layer_names, near_misses, text_mask, unambiguous_mask


def name(pattern: str | re.Pattern[str]) -> Filter:
    """Variables whose stable name matches.

    A plain string must begin where a word of the name begins, and must not end within a number: "conv" finds
    `conv1`, `block1_conv2` and `conv2d_3`; "block1" does not find `block10_conv`, and "dense" does not find
    `densenet121`. It also finds the end of a word if the layer's class has that name: "conv" finds
    `sepconv1`, a `SeparableConv2D`. It does not find a word in the middle of a class name: "head" does not
    find a `MultiHeadAttention`. Names of parts inside Keras' own layers
    (`multi_head_attention/output_dense`) are searched only if no other name matches. The glob `"*head*"`
    finds the text anywhere.

    Args:
        pattern: a plain string; a glob, if it has any of `*?[`, which matches any run of whole path
            components (`"conv?"`, `"block5*"`, `"blocks/*/kernel"`); or a compiled regex, searched.

    Raises:
        TypeError: another type.
        SelectionError: an empty pattern, which would match everything; when selecting, an invalid glob.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc1"),
        ...                           keras.layers.Dense(2, name="fc2")], name="net")
        >>> [v.path for v in select(model, name("fc?/kernel"))]
        ['net/fc1/kernel', 'net/fc2/kernel']
    """
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if not isinstance(text, str):
        raise TypeError(
            f"`pattern` must be a str or a compiled regex of str, got {pattern!r} of type "
            f"{type(pattern).__name__}"
        )
    if not text:
        raise SelectionError(
            f"`pattern` {pattern!r} is empty and would match every variable; to select all of them "
            "use `model.trainable_variables`"
        )
    return _Name(pattern)


def layer_type(*classes: type) -> Filter:
    """Variables whose layer, or any layer around it short of the model itself, is of these classes.

    So `LSTM` finds what is in `Bidirectional(LSTM(8))`, and the class of a nested model finds that
    whole model. A depthwise or separable convolution counts as a convolution of its rank: `Conv2D`
    finds `DepthwiseConv2D` and `SeparableConv2D` too. To leave them out, write
    `layer_type(Conv2D) & ~layer_type(DepthwiseConv2D)`. Transposed convolutions have classes of
    their own.

    Args:
        *classes: subclasses of `keras.layers.Layer`.

    Raises:
        TypeError: none given, or not a layer class.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv"),
        ...     keras.layers.BatchNormalization(name="bn")], name="net")
        >>> [v.path for v in select(model, layer_type(keras.layers.Conv2D))]
        ['net/conv/kernel', 'net/conv/bias']
    """
    if not classes:
        raise TypeError("`layer_type()` needs at least one layer class")
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
            raise TypeError(f"`classes` must be subclasses of keras.layers.Layer, got {cls!r}")
    return _LayerType(classes)


def kind(*kinds: str) -> Filter:
    """Variables whose name ends in one of these components: `"kernel"`, `"bias"`, `"gamma"`, ...

    Args:
        *kinds: last components of names.

    Raises:
        TypeError: none given, or not strings. A kind that no variable of the model has raises
            `SelectionError` when selecting.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> dense.build((None, 3))
        >>> [v.name for v in select(dense, ~kind("bias"))]
        ['kernel']
    """
    if not kinds or not all(isinstance(one, str) for one in kinds):
        raise TypeError(f"`kinds` must be one or more strings such as 'kernel', got {kinds!r}")
    return _Kind(kinds)


@dataclass(frozen=True, repr=False)
class _Name(Filter):
    pattern: str | re.Pattern[str]
    is_text = True

    def mask(self, tree: ModelTree) -> list[bool]:
        mask = text_mask(self.pattern, tree)
        if tree.keras_numbers_differ:
            by_keras_names = text_mask(self.pattern, tree, keras_names=True)
            mask = unambiguous_mask(tree, repr(self), mask, by_keras_names)
        if not any(mask):
            # A typo inside `~` would stand for "everything", and one beside `|` for nothing.
            raise nothing_matched(self, tree)
        return mask

    def hint(self, tree: ModelTree) -> str:
        text = self.pattern if isinstance(self.pattern, str) else self.pattern.pattern
        components = [part for info in tree.infos for part in info.name.split("/")]
        return near_misses(text, [*components, *layer_names(tree), *tree.names])

    def __repr__(self) -> str:
        return f"name({self.pattern!r})"


@dataclass(frozen=True, repr=False)
class _LayerType(Filter):
    classes: tuple[type, ...]

    def mask(self, tree: ModelTree) -> list[bool]:
        classes = tuple(cls for one in self.classes for cls in (one, *_FAMILIES.get(one, ())))
        inside = tree.inside(node.layer for node in tree.nodes if isinstance(node.layer, classes))
        return [hit or isinstance(info.layer, classes) for hit, info in zip(inside, tree.infos)]

    def hint(self, tree: ModelTree) -> str:
        found = sorted({type(info.layer).__name__ for info in tree.infos})
        return f" Classes of the layers that own variables: {', '.join(found)}."

    def __repr__(self) -> str:
        return f"layer_type({', '.join(cls.__name__ for cls in self.classes)})"


# In Keras 2 these were subclasses; in Keras 3 they only share private bases.
_FAMILIES: dict[type, tuple[type, ...]] = {
    keras.layers.Conv1D: (keras.layers.DepthwiseConv1D, keras.layers.SeparableConv1D),
    keras.layers.Conv2D: (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D),
}


@dataclass(frozen=True, repr=False)
class _Kind(Filter):
    kinds: tuple[str, ...]
    is_text = True

    def mask(self, tree: ModelTree) -> list[bool]:
        present = {info.kind: None for info in tree.infos}
        for one in self.kinds:
            if one not in present:
                raise SelectionError(
                    f"kind({one!r}): no variable of model {tree.model.name!r} is of that kind."
                    f"{near_misses(one, present)} Its kinds: {first_few(list(present), 12)}"
                )
        return [info.kind in self.kinds for info in tree.infos]

    def __repr__(self) -> str:
        return f"kind({', '.join(map(repr, self.kinds))})"


@dataclass(frozen=True, repr=False)
class Predicate(Filter):
    function: Callable[[VariableInfo], object]

    def mask(self, tree: ModelTree) -> list[bool]:
        hits = [self.function(info) for info in tree.infos]
        for info, hit in zip(tree.infos, hits):
            if not isinstance(hit, (bool, np.bool_)):
                raise TypeError(
                    f"a callable filter must return a bool, but {self!r} returned {hit!r} of type "
                    f"{type(hit).__name__} for {info.name!r}"
                )
        return list(map(bool, hits))

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


@converts
def _from_spec(spec: object) -> Filter | None:
    if isinstance(spec, (str, re.Pattern)):
        return name(spec)
    if isinstance(spec, types.UnionType):
        return layer_type(*spec.__args__)
    if isinstance(spec, type) and issubclass(spec, keras.layers.Layer):
        return layer_type(spec)
    # Layers and other classes are callable too, but no filters of this kind.
    other = isinstance(spec, (type, keras.layers.Layer))
    return Predicate(spec) if callable(spec) and not other else None
