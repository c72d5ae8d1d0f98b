"""`cache_frozen`: computes the features of the frozen part of a model once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import keras
import numpy as np

from ...optim import Plan
from ...optim.common.arguments import whole_number
from ...optim.common.types import Array, Tensors
from ...optim.filters.selection import VariablesOrFilters
from ..graph.inputs import matched_inputs
from .comparison import rounding_tolerance, same_features
from .extraction import all_examples, batches_of, count, features, repeated, sample_features, sample_of
from .files import FeatureFiles, batch_writer
from .fingerprint import fingerprint
from .frozen_part import augmentation_layers, check_stateless, split_frozen, trained_variables


@dataclass(frozen=True)
class Cached:
    """The result of `cache_frozen`: the part of a model that trains, and its data.

    Attributes:
        model: from the features to the model's outputs. It shares the model's layers, so training it trains
            the whole model.
        variables: the variables that train.
        x: the features, an array (examples, ...), or a tuple of arrays if the cut crosses several tensors.
        y: the targets, repeated for each augmented copy.
        sample_weight: likewise; None if there is none.
        data: `(x, y)` or `(x, y, sample_weight)`; for a `loops.Batches`, a new one of the same batch size and
            order.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import models
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> cached = models.cache_frozen(model, "head", np.ones((8, 4), "float32"))
        >>> isinstance(cached, models.Cached), cached.model.output_shape, cached.y
        (True, (None, 2), None)
    """

    model: keras.Model
    variables: list[keras.Variable]
    x: Tensors
    y: Tensors
    sample_weight: Tensors
    data: Any  # whatever kind of data was given


def cache_frozen(
    model: keras.Model,
    trained: Plan | VariablesOrFilters,
    data: Any,
    *,
    path: str | os.PathLike[str] | None = None,
    copies: int = 0,
    batch_size: int = 128,
) -> Cached:
    """Runs the frozen part of a model over the data once, so that training the rest is much faster.

    The model is cut before the first layers that train, wherever they are: in a chain, in the arms of a
    branch, in nested models. The part before the cut runs in inference mode: BatchNorm uses its moving
    statistics, dropout is off, also inside frozen recurrent and attention layers. Dropout after all frozen
    weights belongs to the rest. Training the rest gives the same weights as training the whole model, with
    the same choice of variables and the same order of examples. (Losses differ by the penalties on frozen
    weights, which are constant.)

    A cache is for one choice of variables. After unfreezing, make another one.

    The flow:
        cut the model into front (frozen) and rest
        features = front(x), or those in `path` if they are still valid
        return rest, (features, y, sample_weight)

    Args:
        model: a Functional or Sequential model, which may have nested ones.
        trained: the variables to train: a `Plan`, variables, or filters as `optim.select` takes them.
        data: `(x, y)` or `(x, y, sample_weight)` of arrays, x alone (a dict, list or tuple of arrays for
            several inputs), a `loops.Batches` without a transform, or a finite `tf.data.Dataset` of
            batches, which is read into memory.
        path: a folder for the features, which are then memory-mapped; None to hold them in memory. Features
            that are there already are used if weights, data and layers are the same; otherwise they are
            computed again, with a warning. Layers are the same if their `get_config` is, and if the frozen
            part gives the same features for 16 examples, without augmentation. This test finds a change that
            `get_config` does not show (a value that a `Lambda` reads, an attribute of your own layer), if
            it changes these features by more than rounding can: by 0.1 percent (1.6 in float16, 12.5 in
            bfloat16) of the size of their channel, the last axis, or of a hundredth of all channels' size if
            that is more. It does not find a smaller change, or one that affects other examples only: empty
            the folder then.
            A `loops.Batches` loads the features into memory. If they are too large for that, pass `data` as
            arrays, and train on a `tf.data.Dataset.from_generator` over the returned `x`.
        copies: how many augmented copies of the data to make, if layers of the frozen part augment at random:
            Keras' own (`RandomFlip`), and layers of yours, such as a `Lambda`, that draw random numbers
            before any with weights, or in inference mode as well. These alone run in training mode then. With
            0 such models are refused, as each epoch would see the same images.
        batch_size: examples at a time, of arrays.

    Returns:
        What to train: `TrainStep(cached.model, ..., variables=cached.variables)` on `cached.data`.

    Raises:
        ValueError: nothing is frozen before what trains; layers that augment without `copies`, or `copies`
            without them; a frozen stateful RNN; a `Batches` with a transform; endless or empty data; inputs
            that are not the model's; a subclassed model; `path` and a layer or operation without a
            `get_config`.
        TypeError: `model` is no Keras model, or a `batch_size` that is no whole number.
        SelectionError: a filter that matches nothing.
        OSError: the features do not fit on the disk of `path`.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import models
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> cached = models.cache_frozen(model, "head", (np.ones((8, 4), "float32"), np.zeros(8)))
        >>> cached.x.shape, [variable.path.split("/")[-2] for variable in cached.model.trainable_variables]
        ((8, 3), ['head', 'head'])
    """
    batch_size = whole_number("batch_size", batch_size, at_least=1)
    variables = trained_variables(model, trained)
    parts = split_frozen(model, variables)
    assert parts.front is not None  # the front has the frozen weights
    check_stateless(parts.front)
    augmenting = augmentation_layers(parts.front)
    if augmenting and copies < 1:
        raise ValueError(
            f"`model` augments its data in {', '.join(map(repr, augmenting))}, before what trains: a cache "
            "would hold one version of each example for ever. Ask for `copies=n` augmented copies, take the "
            "layers out, or train without a cache."
        )
    if copies and not augmenting:
        raise ValueError(
            f"`copies` is {copies}, and no layer before what trains augments data: leave it out, or begin "
            "the model with layers such as `keras.layers.RandomFlip`."
        )
    x, y, sample_weight = all_examples(data)
    x, repeats = matched_inputs(model, x), max(copies, 1)
    if any(array is None for array in keras.tree.flatten(x)):
        raise ValueError(
            "`data` leaves out an optional input, None, and features are computed from arrays alone: pass an "
            "array for it, or make a model without this input."
        )
    examples = count(x) * repeats
    batches = features(parts.front, augmenting, batches_of(x, batch_size, repeats))
    if path is None:
        computed = _in_memory(examples, batches)
    else:
        key = fingerprint(parts.front, x, copies)
        sample = sample_features(parts.front, batches_of(sample_of(x), batch_size))
        computed = _in_folder(
            FeatureFiles(path), key, sample, rounding_tolerance(parts.front), examples, batches
        )
    x, y, sample_weight = keras.tree.map_structure(lambda a: repeated(a, repeats), (x, y, sample_weight))
    x = parts.rest_inputs(computed, x)
    if hasattr(data, "with_arrays"):
        data = data.with_arrays(x, y, sample_weight)
    else:
        data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
    return Cached(parts.rest, variables, x, y, sample_weight, data)


def _in_memory(examples: int, batches: Iterator[list[Array]]) -> list[Array]:
    first = next(batches)
    # Allocated at once, as concatenating the batches at the end would take twice the memory.
    arrays = [np.empty((examples, *array.shape[1:]), array.dtype) for array in first]
    write = batch_writer(arrays)
    for batch in chain([first], batches):
        write(batch)
    return arrays


def _in_folder(
    files: FeatureFiles,
    key: str,
    sample: list[Array],
    tolerance: float,
    examples: int,
    batches: Iterator[list[Array]],
) -> list[Array]:
    """Reads the features in a folder; computes and writes them first if they are missing or not valid.

    They are valid if they have the fingerprint `key` and, for a few examples, the values of `sample`, which
    was computed now, within `tolerance` as a share of their size.
    """
    if files.exists:
        fault = "of other weights, data or layers, or not whole"
        if files.key == key:
            if same_features(files.sample(), sample, tolerance):
                return files.read()
            # The fingerprint covers only the `get_config` of a layer.
            fault = (
                "not what the frozen part gives now, although weights, data and each `get_config` are the "
                "same (so it may be what a Lambda's function reads, an attribute of a layer of yours, random "
                "numbers of its own, or another machine's rounding)"
            )
        warnings.warn(f"The features in {files.folder!r} are {fault}: they are computed again.", stacklevel=3)
    with files.writing(key, examples, sample) as write:
        for batch in batches:
            write(batch)
    return files.read()
