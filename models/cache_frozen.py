"""The frozen part of a model, computed once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .checks import whole_number
from .cut import of_cut, split_graph
from .feature_files import FeatureFiles, filling, fingerprint
from .frozen import augmentations, split_frozen, trained_variables
from .keras_private import calls


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
            a warning says so.
        copies: how many augmented copies of the data to make, where layers of the frozen part augment at
            random (`RandomFlip`); 0 refuses such models, as each epoch would see the same images.
        batch_size: examples at a time, of arrays.

    Returns:
        What to train: `TrainStep(cached.model, ..., variables=cached.variables)` on `cached.data`.

    Raises:
        ValueError: nothing is frozen before what trains; layers that augment without `copies`, or `copies`
            without them; a `Batches` with a transform; endless or empty data; a subclassed model.
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
    batches = _features(parts.front, random, _slices(x, batch_size, copies))
    if path is None:
        computed = _in_memory(examples, batches)
    else:
        computed = _kept(FeatureFiles(path), fingerprint(parts.front, x, copies), examples, batches)
    x, y, sample_weight = keras.tree.map_structure(lambda array: _repeated(array, copies), whole)
    features = of_cut(parts, computed, x)
    if hasattr(data, "with_arrays"):
        data = data.with_arrays(features, y, sample_weight)
    else:
        data = keras.utils.pack_x_y_sample_weight(features, y, sample_weight)
    return Cached(parts.rest, variables, features, y, sample_weight, data)


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


def _repeated(array: Any, copies: int) -> Any:
    return array if array is None or copies < 2 else np.concatenate([array] * copies)


def _features(
    front: keras.Model, random: Sequence[str], batches: Iterator[Any]
) -> Iterator[list[np.ndarray]]:
    """Runs the frozen part over batches: in inference mode, save its layers that augment."""
    inferred, augment = front, None
    if random:
        before: set[int] = set()
        for call in reversed(calls(front)):
            if call.operation.name in random or any(id(tensor) in before for tensor in call.outputs):
                before.update(map(id, [*call.inputs, *call.outputs]))
        parts = split_graph(front, lambda call: id(call.outputs[0]) not in before)
        augment, inferred = parts.front, parts.rest

    def run(x: Any) -> list[tf.Tensor]:
        if augment is not None:
            x = of_cut(parts, keras.tree.flatten(augment(x, training=True)), x)
        made = keras.tree.flatten(inferred(x, training=False))
        # NumPy's files know no bfloat16.
        return [tf.cast(t, tf.float32) if t.dtype == tf.bfloat16 else t for t in made]

    traced = None
    for x in batches:
        if traced is None:
            # A large network takes as long to trace as some thousand images to run: once, then, for
            # batches of any size, as the last one is smaller.
            specs = keras.tree.map_structure(_any_length, x)
            traced = tf.function(run, autograph=False).get_concrete_function(specs)
        yield [tensor.numpy() for tensor in traced(x)]


def _any_length(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def _in_memory(examples: int, batches: Iterator[list[np.ndarray]]) -> list[np.ndarray]:
    first = next(batches)
    # Room for all at once: to join batches at the end would take it twice.
    arrays = [np.empty((examples, *array.shape[1:]), array.dtype) for array in first]
    write = filling(arrays)
    for batch in chain([first], batches):
        write(batch)
    return arrays


def _kept(
    files: FeatureFiles, key: str, examples: int, batches: Iterator[list[np.ndarray]]
) -> list[np.ndarray]:
    """The features of a folder, made before or now."""
    if files.exists and files.key == key:
        return files.read()
    if files.exists:
        warnings.warn(
            f"The features in {files.folder!r} are of other weights, data or layers, or not whole: they are "
            "made again.",
            stacklevel=3,
        )
    first = next(batches)
    with files.writing(key, examples, first) as write:
        for batch in chain([first], batches):
            write(batch)
    return files.read()
