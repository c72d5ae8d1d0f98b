"""Stable names: every variable of a model under a name that is the same in every process."""

from __future__ import annotations

import keras

from ..common.messages import short_repr
from .model_tree import ModelTree, VariableInfo
from .model_walk import walk_model


class NotBuiltError(ValueError):
    """The model has layers whose variables do not exist yet.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(2, name="head")], name="net")
        >>> try:
        ...     names = named_variables(model)
        ... except NotBuiltError as error:
        ...     print(error)
        `model` 'net' has no variables to name yet (not built: head): ...
        >>> model.build((None, 3))
        >>> list(named_variables(model))
        ['head/kernel', 'head/bias']
    """


def named_variables(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Every variable of `model.weights`, in that order, under a unique and stable name.

    Subclassed models and layers are named by attribute path (`conv1/kernel`, `blocks/0/conv/kernel`,
    `towers/left/kernel`), Functional and Sequential ones by layer names, with nested models as prefixes
    (`vgg16/block5_conv2/kernel`). A shared layer is named once, by the first path that leads to it.

    Keras numbers layers that were given no name (`conv2d`, `conv2d_1`, ...) with one counter for the whole
    process, so its names depend on what was built before. In Functional and Sequential models, names of that
    form are counted anew for each model, in the order of `model.layers`. Keras keeps no record of who wrote a
    name: layers that you call `dense_1` and `dense_2` yourself come out as `dense` and `dense_1`, here and
    after loading; other names are yours to the letter.

    Args:
        model: a built `keras.Model` or `keras.layers.Layer`.

    Returns:
        Names to variables.

    Raises:
        TypeError: `model` is no Keras model or layer.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
        ...                           keras.layers.Dense(2)])
        >>> list(named_variables(model))
        ['hidden/kernel', 'hidden/bias', 'dense/kernel', 'dense/bias']
    """
    return {info.name: info.variable for info in tree_of(model).infos}


def variable_infos(model: keras.layers.Layer) -> list[VariableInfo]:
    """Name, variable, owner and kind of each variable, in `model.weights` order.

    Args:
        model: a built `keras.Model` or `keras.layers.Layer`.

    Returns:
        One `VariableInfo` a variable.

    Raises:
        TypeError: `model` is no Keras model or layer.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden")])
        >>> [(info.name, info.kind, info.layer.name) for info in variable_infos(model)]
        [('hidden/kernel', 'kernel', 'hidden'), ('hidden/bias', 'bias', 'hidden')]
    """
    return list(tree_of(model).infos)


def tree_of(model: keras.layers.Layer) -> ModelTree:
    """The model's `ModelTree`, after the checks that every public function makes."""
    if not isinstance(model, keras.layers.Layer):
        hint = " (a class: call it to make a model)" if isinstance(model, type) else ""
        raise TypeError(
            "`model` must be a keras.Model or a keras.layers.Layer, "
            f"got {short_repr(model)} of type {type(model).__name__}{hint}"
        )
    tree = walk_model(model)
    waiting = [node.path for node in tree.nodes if not node.layer.built]
    # A built model may keep layers that it never calls; an unbuilt one may have all it needs.
    if (not tree.infos and not model.built) or (waiting and not (model.built and tree.infos)):
        which = f" (not built: {', '.join(waiting[:5])}{', ...' * (len(waiting) > 5)})"
        ways = "call it once on a batch"
        if model.built:  # Keras' own `build` of a subclassed model may do no more than say so
            ways = f"its `build` made none, so {ways}"
        else:
            ways += ", call `model.build(input_shape)`, or start it with `keras.Input(shape)`"
        raise NotBuiltError(
            f"`model` {model.name!r} has no variables to name yet{which if waiting else ''}: {ways}"
        )
    return tree
