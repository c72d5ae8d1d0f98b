"""Ready-made groups by depth: a learning rate for each layer or run of layers, from bottom to top."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from ..common.arguments import real_number, whole_number
from ..common.messages import short_repr
from ..filters.base import Filter, FilterLike, as_filter, nonempty_mask
from ..naming.model_tree import ModelTree
from ..naming.stable_names import tree_of
from .depths import Depth, depths_of, merged
from .group import Group

# Pickles of earlier versions look for it here.
_Depth = Depth


def layerwise_decay(
    model: keras.layers.Layer, decay: float = 0.75, *, blocks: Sequence[FilterLike] | None = None
) -> dict[str, Group]:
    r"""A group for each depth, its rate `decay` times that of the one above it.

    Depth $d$ of $D$ has the scale $decay^{D - 1 - d}$: the embeddings or the stem, at depth 0, learn
    slowest, the head at the optimizer's own rate. This is how BEiT and timm count.

    Without `blocks`, the depths are found in the model, in its order; none of them cuts a unit in two:

    - In a Functional model, a depth ends where only one tensor leads on. So a residual unit, attention, or
      parallel branches are one depth, and so is everything under a long skip connection, as in a U-Net. In a
      chain, each layer is a depth.
    - In a Sequential or subclassed model, each child layer is a depth, with the layers inside it.
    - Nested models are opened: Functional ones, Sequential ones inside these two, and any model with at most
      one sibling, such as a backbone with its head.
    - A normalization layer belongs to the depth before it. Variables that a model owns itself, such as a
      class token or position embeddings, belong to the depth of its first layer.

    Args:
        model: a built model.
        decay: above 0, at most 1.
        blocks: a filter for each depth, from the bottom to the top, for models in which a depth is a
            block of layers: `["stem*", "block1*", "block2*", "head*"]`. `partition` reports variables
            that two of them match, and takes those that none matches as its `rest`. None to find depths.

    Returns:
        `"depth_0"` (the bottom), `"depth_1"`, ... to groups, for `partition`.

    Raises:
        TypeError: `decay` is no number, or `blocks` no sequence of filters.
        ValueError: `decay` out of range, no `blocks`, or nothing to train.
        SelectionError: one of `blocks` matches nothing.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv"),
        ...     keras.layers.BatchNormalization(name="norm"), keras.layers.Flatten(),
        ...     keras.layers.Dense(4, name="fc"), keras.layers.Dense(2, name="head")])
        >>> for name, group in layerwise_decay(model, 0.5).items():
        ...     print(name, group.where, group.lr_scale)
        depth_0 depth(conv, norm) 0.25
        depth_1 depth(fc) 0.5
        depth_2 depth(head) 1.0

    Reference: Bao et al. 2022, "BEiT: BERT pre-training of image transformers";
    `timm.optim.param_groups_layer_decay`.
    """
    decay = real_number("decay", decay, above=0, at_most=1)
    tree = tree_of(model)
    levels: Sequence[FilterLike] = depths_of(tree) if blocks is None else _checked(blocks, tree)
    top = len(levels) - 1
    return {
        f"depth_{depth}": Group(where, lr_scale=decay ** (top - depth)) for depth, where in enumerate(levels)
    }


def discriminative(
    model: keras.layers.Layer, lowest: float, highest: float, groups: int = 3
) -> dict[str, Group]:
    r"""Runs of layers with rates in a geometric series, the lowest at the bottom.

    They are made of what `layerwise_decay` counts as depths, which are split, in order, into `groups` runs of
    equal length; if they cannot be, the first runs have one more. Run $i$ of $n$ learns at
    $lowest \cdot (highest / lowest)^{i / (n - 1)}$, a rate of its own that does not follow the
    optimizer's. A single group learns at `highest`.

    Args:
        model: a built model.
        lowest: rate of the first run, above 0.
        highest: rate of the last run, at least `lowest`.
        groups: how many runs, at least 1.

    Returns:
        `"depth_0"` (the bottom), `"depth_1"`, ... to groups, for `partition`.

    Raises:
        TypeError: a rate that is no number, or `groups` no whole number.
        ValueError: `lowest` above `highest`, more groups than layers, or a value out of range.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((4,)), keras.layers.Dense(3, name="fc1"),
        ...     keras.layers.Dense(3, name="fc2"), keras.layers.Dense(2, name="head")])
        >>> for name, group in discriminative(model, 1e-4, 1e-2, groups=2).items():
        ...     print(name, group.where, group.learning_rate)
        depth_0 depth(fc1, fc2) 0.0001
        depth_1 depth(head) 0.01

    Reference: Howard & Ruder 2018, "Universal language model fine-tuning for text classification";
    fastai's `slice(lowest, highest)`.
    """
    lowest, highest = real_number("lowest", lowest, above=0), real_number("highest", highest, above=0)
    if lowest > highest:
        raise ValueError(
            f"`lowest` {lowest:g} is above `highest` {highest:g}: the bottom of the model learns at "
            "`lowest`, the top at `highest`"
        )
    groups = whole_number("groups", groups, at_least=1)
    levels = depths_of(tree_of(model))
    if groups > len(levels):
        raise ValueError(
            f"`groups` {groups} is more than the {len(levels)} layers or blocks of model {model.name!r} that "
            f"have trainable variables: ask for {len(levels)} or fewer"
        )
    rates = np.geomspace(lowest, highest, groups) if groups > 1 else [highest]
    runs = np.array_split(np.arange(len(levels)), groups)
    return {
        f"depth_{number}": Group(merged([levels[index] for index in run]), learning_rate=float(rate))
        for number, (run, rate) in enumerate(zip(runs, rates))
    }


def _checked(blocks: Sequence[FilterLike], tree: ModelTree) -> list[Filter]:
    if isinstance(blocks, str) or not isinstance(blocks, Sequence):
        raise TypeError(
            "`blocks` must be a list of filters, one for each depth from the bottom to the top, got "
            f"{short_repr(blocks)}"
        )
    if not blocks:
        raise ValueError("`blocks` is empty: give a filter for each depth, or None for one a layer")
    filters = [as_filter(block) for block in blocks]
    for block in filters:
        nonempty_mask(block, tree)
    return filters
