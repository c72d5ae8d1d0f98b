"""Classifiers of images in files that Keras wrote, as functions of one fixed shape.

A file that holds anything else is a `DataError` that names it, what was found and the way out.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .array_files import DataError, one_line

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf


@dataclass(frozen=True)
class Network:
    """A loaded model as a function from one fixed shape of batch to (batch, classes)."""

    call: Callable[[np.ndarray], tf.Tensor]
    shape: tuple[int, int, int, int]
    dtype: str
    classes: int


def check_file(path: Path) -> None:
    """Refuses what cannot be a whole model by its name and its outer form; imports no TensorFlow."""
    wanted = 'wanted a whole model, as model.save("NAME.keras") writes it'
    if path.is_dir():
        raise DataError(f"{path}: is a folder; {wanted}")
    if not path.is_file():
        raise DataError(f"{path}: no such file; {wanted}")
    if path.suffix not in (".keras", ".h5") or path.name.endswith(".weights.h5"):
        kind = "weights without their model" if path.suffix == ".h5" else "neither .keras nor .h5"
        raise DataError(f"{path}: is {kind}; {wanted}")
    try:
        if path.suffix == ".h5":
            with path.open("rb") as stream:
                whole = stream.read(8) == b"\x89HDF\r\n\x1a\n"
        else:
            with zipfile.ZipFile(path) as archive:
                whole = {"config.json", "model.weights.h5"} <= set(archive.namelist())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {wanted}") from error
    except Exception:  # A damaged archive makes zipfile fail in any way there is.
        whole = False
    if not whole:
        raise DataError(
            f"{path}: is not a whole {path.suffix} file, perhaps truncated or of another kind; {wanted}"
        )


def load(path: Path, size: int | None, batch: int) -> Network:
    """Loads a model from a file that `check_file` found in order, and traces it once, on full batches alone.

    `size` is height and width for a model that takes any; None for others.
    """
    import keras
    import tensorflow as tf

    import gradloop.models
    import gradloop.optim  # noqa: F401  both so that Keras knows the classes of ours

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever a layer's constructor does.
        reason = one_line(str(error).rpartition("Exception encountered: ")[2], 200)
        raise DataError(
            f"{path}: Keras cannot load it ({reason}); a model with layers of its own is used from Python"
        ) from error
    height, width, channels, dtype = _input(path, model)
    if None in (height, width) and size is None:
        raise DataError(
            f"{path}: takes images of any size; choose one with --size, best that of its training"
        )
    if size is not None and (height or size, width or size) != (size, size):
        raise DataError(f"--size {size}: {path} reads {height}x{width} alone; leave the option out")
    shape = (batch, height or size or 0, width or size or 0, channels)
    call = tf.function(
        lambda images: model(images, training=False), input_signature=[tf.TensorSpec(shape, dtype)]
    )
    try:
        output = call.get_concrete_function().structured_outputs
    except Exception as error:  # A model raises what it likes on a shape that does not suit it.
        raise DataError(
            f"{path}: does not run on images (batch, height, width, channels) of shape {shape} "
            f"({one_line(error, 200)}); train and save it for such"
        ) from error
    found = getattr(output, "shape", None)
    if found is None or len(found) != 2 or (found[1] or 0) < 2:
        given = "several outputs" if found is None else f"outputs of shape {found}"
        raise DataError(f"{path}: gives {given}; wanted (batch, classes), one output a class")
    return Network(call, shape, dtype, int(found[1]))


def _input(path: Path, model: keras.Model) -> tuple[int | None, int | None, int, str]:
    """Height and width, None where any will do, channels and dtype of a model's one input."""
    from keras import backend

    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        raise DataError(f"{path}: has {len(inputs)} inputs; wanted one, of images")
    # A subclassed model knows no inputs, but the shape that it was built for.
    shape = inputs[0].shape if inputs else (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (tuple, list)) or len(shape) != 4 or shape[3] not in (1, 3):
        raise DataError(
            f"{path}: reads inputs of shape {shape}; wanted images (batch, height, width, 1 or 3)"
        )
    return shape[1], shape[2], shape[3], backend.standardize_dtype(inputs[0].dtype) if inputs else "float32"
