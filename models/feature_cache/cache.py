"""The frozen part of a model, computed once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..common.arguments import whole_number
from ..graph.split import of_cut
from .comparison import same_features, tolerance
from .extraction import features, features_of_few
from .files import FeatureFiles, filling
from .fingerprint import fingerprint
from .frozen_part import augmentations, split_frozen, trained_variables

_SAMPLE = 16  # examples on which a cache from before is tried


@dataclass(frozen=True)
class Cached:
    """What `cache_frozen` returns: the part of a model that trains, and what it reads.

    Attributes:
        model: from the features to the model's outputs, of the model's own layers: what it learns, the whole
            model knows.
        variables: those that train.
        x: the features, an array (examples, ...), or a tuple of them where the cut crosses several tensors.
        y: the targets, as given; of all copies, if copies were made.
        sample_weight: as given, likewise; None if there is none.
        data: `(x, y)` or `(x, y, sample_weight)`; if the data was a `loops.Batches`, another one of the same
            batch size and order.

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
    x: Any
    y: Any
    sample_weight: Any
    data: Any


def cache_frozen(
    model: keras.Model,
    trained: Any,
    data: Any,
    *,
    path: str | os.PathLike[str] | None = None,
    copies: int = 0,
    batch_size: int = 128,
) -> Cached:
    """Runs the part of a model that is frozen over the data once; training the rest on that is much faster.

    The cut is made before the first layers that train, wherever that is: in a chain, in the arms of a branch,
    in models within the model. What lies before runs in inference mode: BatchNorm by its moving statistics,
    dropout off. Training the rest gives the weights that training the whole model gives, with the same
    choice of variables and the same order of examples; dropout that comes after all frozen weights is of the
    rest. (Losses differ by the penalties on frozen weights, which are constant.)

    A cache is for one choice of variables. After unfreezing, make another one.

    Args:
        model: a Functional or Sequential model; models among its layers are opened.
        trained: what trains: a `Plan`, variables, or filters as `optim.select` takes them.
        data: `(x, y)` or `(x, y, sample_weight)` of arrays, x alone, a `loops.Batches` without a transform,
            or a finite `tf.data.Dataset` of batches, which is read into memory.
        path: a folder to keep the features in, memory-mapped; None to keep them in memory. Features that are
            there from before are used if weights, data and layers are the same; else they are made again, and
            a warning says so. Layers are the same if `get_config` says so and if the frozen part, run on 16
            examples without augmentation, gives what it gave before. So a change of what the function of a
            `Lambda` reads, or of an attribute of a layer of yours, is seen if it changes the features of
            these 16 by more than rounding may: 0.1 percent (1.6 in float16, 12.5 in bfloat16) of the size of
            their channel, the last axis, or of a hundredth of all channels' size if that is more. A smaller
            change, or one of other examples alone, is not seen: empty the folder then.
            A `loops.Batches` holds its arrays in memory, also these: features too large for that want `data`
            as arrays, and a `tf.data.Dataset.from_generator` over the `x` that comes back.
        copies: how many augmented copies of the data to make, where layers of the frozen part augment at
            random (`RandomFlip`); 0 refuses such models, as each epoch would see the same images.
        batch_size: examples at a time, of arrays.

    Returns:
        What to train: `TrainStep(cached.model, ..., variables=cached.variables)` on `cached.data`.

    Raises:
        ValueError: nothing is frozen before what trains; layers that augment without `copies`, or `copies`
            without them; a `Batches` with a transform; endless or empty data; a subclassed model; `path` and
            a layer or operation that cannot tell what it was made with.
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
    batch_size = whole_number("batch_size", batch_size)
    variables = trained_variables(model, trained)
    parts = split_frozen(model, variables)
    assert parts.front is not None  # frozen weights are in it
    random = augmentations(parts.front)
    if random and copies < 1:
        raise ValueError(
            f"`model` augments its data in {', '.join(map(repr, random))}, before what trains: a cache would "
            "hold one version of each example for ever. Ask for `copies=n` augmented copies, take the layers "
            "out, or train without a cache."
        )
    if copies and not random:
        raise ValueError(
            f"`copies` is {copies}, and no layer before what trains augments data: leave it out, or begin "
            "the model with layers such as `keras.layers.RandomFlip`."
        )
    whole = _arrays(data)
    x, y, sample_weight = whole
    examples = len(keras.tree.flatten(x)[0]) * max(copies, 1)
    batches = features(parts.front, random, _slices(x, batch_size, copies))
    if path is None:
        computed = _in_memory(examples, batches)
    else:
        key = fingerprint(parts.front, x, copies)
        sample = features_of_few(parts.front, _slices(_spread(x), batch_size, 0))
        computed = _kept(FeatureFiles(path), key, sample, tolerance(parts.front), examples, batches)
    x, y, sample_weight = keras.tree.map_structure(lambda array: _repeated(array, copies), whole)
    x = of_cut(parts, computed, x)
    if hasattr(data, "with_arrays"):
        data = data.with_arrays(x, y, sample_weight)
    else:
        data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
    return Cached(parts.rest, variables, x, y, sample_weight, data)


def _arrays(data: Any) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight)` of all examples."""
    if getattr(getattr(data, "reader", None), "transform", None) is not None:
        raise ValueError(
            "`data` has a `transform`, which may give other examples each epoch: a cache would hold one "
            "version of each. Transform the arrays before, or train without a cache."
        )
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`data` has no end: say how many batches to keep, `dataset.take(batches)`.")
        batches = [keras.utils.unpack_x_y_sample_weight(batch) for batch in data]
        if not batches:
            raise ValueError("`data` is empty.")
        return keras.tree.map_structure(
            lambda *some: None if some[0] is None else np.concatenate([one.numpy() for one in some]), *batches
        )
    arrays = keras.utils.unpack_x_y_sample_weight(getattr(data, "arrays", data))
    arrays = keras.tree.map_structure(lambda array: None if array is None else np.asarray(array), arrays)
    lengths = {len(array) for array in keras.tree.flatten(arrays) if array is not None}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"`data` must hold arrays of one length with at least one example; found {sorted(lengths)}."
        )
    return arrays


def _slices(x: Any, batch_size: int, copies: int) -> Iterator[Any]:
    """The inputs in batches, of all copies, as tensors."""
    for _ in range(max(copies, 1)):
        for first in range(0, len(keras.tree.flatten(x)[0]), batch_size):
            yield keras.tree.map_structure(partial(_rows, first=first, last=first + batch_size), x)


def _rows(array: np.ndarray, first: int, last: int) -> tf.Tensor:
    return tf.convert_to_tensor(array[first:last])


def _spread(x: Any) -> Any:
    """A few of the inputs, from all over them: where they are sorted, the first are all of one class."""
    length = len(keras.tree.flatten(x)[0])
    rows = np.linspace(0, length - 1, min(length, _SAMPLE)).astype(int)
    return keras.tree.map_structure(lambda array: array[rows], x)


def _repeated(array: Any, copies: int) -> Any:
    return array if array is None or copies < 2 else np.concatenate([array] * copies)


def _in_memory(examples: int, batches: Iterator[list[np.ndarray]]) -> list[np.ndarray]:
    first = next(batches)
    # Room for all at once: to join batches at the end would take it twice.
    arrays = [np.empty((examples, *array.shape[1:]), array.dtype) for array in first]
    write = filling(arrays)
    for batch in chain([first], batches):
        write(batch)
    return arrays


def _kept(
    files: FeatureFiles,
    key: str,
    sample: list[np.ndarray],
    within: float,
    examples: int,
    batches: Iterator[list[np.ndarray]],
) -> list[np.ndarray]:
    """The features of a folder, made before or now.

    Args:
        files: of the folder.
        key: the fingerprint that they should have.
        sample: features of a few examples, as they are now; those in the folder should be the same.
        within: as a share of the features' size, what counts as the same.
        examples: how many there are in all.
        batches: makes the features of all.
    """
    if files.exists:
        found = "of other weights, data or layers, or not whole"
        if files.key == key:
            if same_features(files.sample(), sample, within):
                return files.read()
            # A fingerprint is of what layers tell of themselves.
            found = (
                "not what the frozen part gives now, although weights, data and each `get_config` are the "
                "same (so it may be what a Lambda's function reads, an attribute of a layer of yours, random "
                "numbers of its own, or another machine's rounding)"
            )
        warnings.warn(f"The features in {files.folder!r} are {found}: they are made again.", stacklevel=3)
    with files.writing(key, examples, sample) as write:
        for batch in batches:
            write(batch)
    return files.read()
