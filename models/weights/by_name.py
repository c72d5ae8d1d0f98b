"""Saves and loads weights by name: of a whole model, of its head, or of what filters choose."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np

from ...optim import FilterLike, named_variables
from ...optim.common.messages import did_you_mean, first_few
from ...optim.common.types import Array
from ...optim.filters.base import as_filter
from ...optim.filters.selection import union_masks
from ...optim.naming.stable_names import tree_of
from ...optim.private.keras_private import weights_were_set
from .from_checkpoint import is_checkpoint, read_checkpoint


def save_weights(model: keras.Model, path: str | os.PathLike[str], *filters: FilterLike) -> list[str]:
    """Writes weights to an `.npz` file under their stable names.

    Keras' `.weights.h5` files hold a whole model and fit only a model of the same layers. These hold the
    weights that you choose, such as a head, and fit every model that has weights of those names.

    Args:
        model: a built model.
        path: of the file, which ends in `.npz`. The write is atomic: an existing file is replaced when the
            new one is complete.
        filters: which weights to write, as `optim.select` takes them, moving statistics and frozen weights
            included; none for all.

    Returns:
        The names written, in the model's order.

    Raises:
        ValueError: another ending.
        FileNotFoundError: no such folder.
        SelectionError: filters that together match nothing, or a text that matches nothing.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> import keras, tempfile
        >>> from gradloop import models
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> file = tempfile.mkdtemp() + "/head.npz"
        >>> models.save_weights(model, file, "head")
        ['head/kernel', 'head/bias']
    """
    file = _npz_file(path)
    if not file.parent.is_dir():
        raise FileNotFoundError(f"`path`: there is no folder {str(file.parent)!r}, make it first.")
    tree = tree_of(model)
    masks = (
        union_masks([as_filter(spec) for spec in filters], tree) if filters else [[True] * len(tree.infos)]
    )
    chosen = [info for info, *matches in zip(tree.infos, *masks) if any(matches)]
    arrays = {info.name: _storable(info.variable.numpy()) for info in chosen}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        # Not `np.savez`, which takes names as keyword arguments: a weight could not be named `file`.
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    return list(arrays)


def load_weights(model: keras.Model, path: str | os.PathLike[str]) -> list[str]:
    """Loads the weights that `save_weights` wrote, or those of a checkpoint.

    Args:
        model: a built model that has weights of the file's names and shapes. Other weights stay as they
            are; a checkpoint must have all of the model's weights.
        path: of the file; or the folder of one checkpoint that `loops.Checkpoint` wrote, such as its `best`
            or `newest`. Of a dict that was saved, the object that has this model's weights is read.

    Returns:
        The names read.

    Raises:
        TypeError: `path` is no path, as `best` where there is no checkpoint.
        ValueError: another ending, and no checkpoint; a file that is damaged or holds no weights; a name that
            the model does not have, another shape, or a dtype that cannot hold the numbers (those of a float
            file in an int8 model, 1e6 in float16). Nothing is loaded then.
        FileNotFoundError: there is no file.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> import keras, numpy as np, tempfile
        >>> from gradloop import models
        >>> def build():
        ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> model, other, file = build(), build(), tempfile.mkdtemp() + "/head.npz"
        >>> models.save_weights(model, file) == models.load_weights(other, file)
        True
        >>> bool(np.all(other(np.ones((1, 4))) == model(np.ones((1, 4)))))
        True
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"`path` must be that of a file or of a checkpoint, not {path!r}. (`best` and `newest` of a "
            "`loops.Checkpoint` are None where there is none.)"
        )
    location, variables = os.fspath(path), named_variables(model)
    if is_checkpoint(location):
        arrays = read_checkpoint(location, variables)
    else:
        arrays = _read(_npz_file(path, ", or be the folder of one checkpoint, such as `Checkpoint.newest`"))
    start = f"`path` {location!r} has weights"
    end = " Nothing was loaded."
    dtypes = [*(array.dtype.name for array in arrays.values()), *(v.dtype for v in variables.values())]
    if "int8" in dtypes or any(name.endswith("_scale") and name not in variables for name in arrays):
        end += (
            " Load weights of a model that is not quantized before `model.quantize(...)`, all those of a "
            "quantized one after it, with the same mode."
        )
    unknown = [name for name in arrays if name not in variables]
    if unknown:
        raise ValueError(
            f"{start} that model {model.name!r} has not: {first_few(unknown)}."
            f"{did_you_mean(unknown[0], variables, most=5)}{end}"
        )
    mismatched = [
        f"{name} {array.shape} for {tuple(variables[name].shape)}"
        for name, array in arrays.items()
        if array.shape != tuple(variables[name].shape)
    ]
    if mismatched:
        raise ValueError(f"{start} of other shapes than model {model.name!r}: {first_few(mismatched)}.{end}")
    lost = [why for name, array in arrays.items() if (why := _precision_loss(name, array, variables[name]))]
    lost += [
        f"{name} without {name}_scale"
        for name, array in arrays.items()
        if array.dtype == np.int8 and f"{name}_scale" in variables and f"{name}_scale" not in arrays
    ]
    if lost:
        raise ValueError(
            f"{start} that model {model.name!r} cannot hold: {first_few(lost)}.{end} A model of a wider "
            "dtype holds numbers that are too large or too small for this one."
        )
    for name, array in arrays.items():
        variables[name].assign(array)
    weights_were_set([model, *(node.layer for node in tree_of(model).nodes)])
    return list(arrays)


def _precision_loss(name: str, array: Array, variable: keras.Variable) -> str:
    """Why a variable cannot hold the numbers of an array, up to rounding; '' if it can."""
    kinds = f"{name}, {array.dtype} for {variable.dtype}"
    dtype = variable.dtype
    if not keras.backend.is_float_dtype(dtype):
        with np.errstate(invalid="ignore"):  # for NaN and numbers out of range
            same = array.dtype.kind != "f" and np.array_equal(array.astype(dtype), array)
        return "" if same else kinds
    if array.dtype in (np.int8, np.uint8):  # quantized numbers, which need their scale
        return kinds
    largest = np.max(np.abs(array[np.isfinite(array)]), initial=0.0).astype("float64")
    rounded = keras.ops.cast(keras.ops.cast(largest, dtype), "float64").numpy()
    return "" if np.isfinite(rounded) and (rounded > 0) == (largest > 0) else f"{kinds} (up to {largest:.3g})"


def _read(file: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(file), np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"`path`: there is no file {str(file)!r}.") from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"`path` {str(file)!r} is no file of weights, or not whole: {error}.") from error
    if not all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in arrays.values()):
        raise ValueError(f"`path` {str(file)!r} is no file of weights: it holds other things than numbers.")
    if not arrays:
        raise ValueError(f"`path` {str(file)!r} holds no weights.")
    return arrays


def _storable(array: Array) -> Array:
    """The array; as float32, which is exact, if NumPy's files cannot hold its dtype (bfloat16, float8)."""
    return array.astype("float32") if array.dtype.kind == "V" else array


def _npz_file(path: str | os.PathLike[str], otherwise: str = "") -> Path:
    file = Path(path)
    if file.suffix != ".npz":
        raise ValueError(f"`path` {str(file)!r} must end in '.npz'{otherwise}.")
    return file
