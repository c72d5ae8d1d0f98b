"""Any image network of keras.applications, with its own preprocessing inside."""

from __future__ import annotations

import inspect
import operator
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType

import keras

from ...optim.common.messages import did_you_mean
from .preprocessing import Preprocess, is_identity, preprocess_pixels

MODES = ("tf", "torch", "caffe")


def backbone(
    name: str,
    input_shape: Sequence[int | None] = (224, 224, 3),
    weights: str | os.PathLike[str] | None = None,
    *,
    include_top: bool = False,
    preprocessing: str | None = "own",
) -> keras.Model:
    """An image network of keras.applications that takes plain pixels.

    The layers keep Keras' names (`"block5_conv2"`). Preprocessing and network are one flat Functional model,
    which `truncate`, `classifier` and `cache_frozen` can cut anywhere.

    Args:
        name: as in keras.applications: `"VGG16"`, `"ResNet50"`, `"MobileNetV2"`, ...; case does not matter.
        input_shape: of one image, (height, width, 3); height and width may be None where a network takes any.
        weights: None for random ones, `"imagenet"` for those that Keras downloads, or an `.h5` or
            `.weights.h5` file.
        include_top: whether to end in the network's own classifier of 1,000 ImageNet classes, instead of in
            its last feature map.
        preprocessing: `"own"` for this network's `preprocess_input`; for weights from elsewhere, `"tf"` (-1
            to 1), `"torch"` (ImageNet's mean and deviation) or `"caffe"` (BGR minus the mean); None for none.

    Returns:
        A Functional model. It takes RGB images of values from 0 to 255, (batch, height, width, 3).

    Raises:
        ValueError: an unknown network or preprocessing; an input shape that is too small or not of three
            channels; weights of another network.
        FileNotFoundError: there is no such weights file.
        ConnectionError: `weights="imagenet"`, and they cannot be downloaded.

    Example:
        >>> model = backbone("MobileNetV2", (96, 96, 3))
        >>> model.output_shape
        (None, 3, 3, 1280)

    Reference: https://keras.io/api/applications.
    """
    network, module = _constructor(name)
    shape = _checked_shape(input_shape)
    path = _checked_path(weights)
    known = inspect.signature(network).parameters
    # Some networks contain their preprocessing as layers, which not all of them can leave out.
    options = {"include_preprocessing": preprocessing == "own"} if "include_preprocessing" in known else {}
    preprocess = _preprocess(preprocessing, module)
    if preprocessing != "own" and not options and is_identity(module.preprocess_input):
        raise ValueError(
            f"`preprocessing` {preprocessing!r}: {network.__name__} has its own as layers that cannot be "
            "left out; use 'own'."
        )
    pixels = keras.Input(shape, name="pixels")
    images = pixels if preprocess is None else preprocess_pixels(pixels, preprocess)
    try:
        model = network(
            include_top=include_top,
            weights=weights if weights == "imagenet" else None,
            input_tensor=images,
            input_shape=shape,
            **options,
        )
    except ValueError as error:
        raise ValueError(
            f"`input_shape` {shape} does not fit {network.__name__}; Keras says: {error}"
        ) from error
    except Exception as error:  # Keras raises a bare Exception for network errors
        if weights == "imagenet" and "URL fetch failure" in str(error):
            raise ConnectionError(
                f"`weights='imagenet'`: the file of {network.__name__} cannot be downloaded ({error}). "
                "Fetch it where there is a network, and pass its path as `weights`."
            ) from error
        raise
    if 0 in model.output_shape[1:]:
        raise ValueError(
            f"`input_shape` {shape} is too small for {network.__name__}: its last feature map would be "
            f"{model.output_shape[1:]}."
        )
    if path is not None:
        _load(model, path, network.__name__)
    # The network's input is a list of one, and Keras would warn about every call without a list.
    return keras.Model(pixels, model.output, name=model.name)


def networks() -> list[str]:
    """The names that `backbone` takes, those of all image networks of keras.applications.

    Example:
        >>> {"VGG16", "ResNet50", "MobileNetV2"} <= set(networks())
        True
    """
    return sorted(_networks())


def _networks() -> dict[str, tuple[Callable[..., keras.Model], ModuleType]]:
    """Name -> its constructor and the module of its `preprocess_input`."""
    return {
        # The public module with the same name as the one that defines the function.
        name: (member, getattr(keras.applications, member.__module__.rpartition(".")[2]))
        for name, member in vars(keras.applications).items()
        if name[0].isupper() and inspect.isfunction(member)
    }


def _constructor(name: str) -> tuple[Callable[..., keras.Model], ModuleType]:
    known = _networks()
    by_lower = {network.lower(): network for network in known}
    if isinstance(name, str) and name.lower() in by_lower:
        return known[by_lower[name.lower()]]
    raise ValueError(
        f"`name` {name!r} is no image network of keras.applications.{did_you_mean(name, known, most=3)} "
        f"All: {', '.join(sorted(known))}."
    )


def _checked_shape(input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
    try:
        shape = tuple(None if size is None else operator.index(size) for size in input_shape)
    except TypeError:
        shape = ()
    if len(shape) != 3 or any(size is not None and size < 1 for size in shape):
        raise ValueError(f"`input_shape` must be (height, width, 3), not {input_shape!r}.")
    if shape[2] != 3:
        raise ValueError(
            f"`input_shape` {shape}: these networks and their preprocessing take three channels, RGB. Repeat "
            "the channel of grey images: `np.repeat(x, 3, axis=-1)`."
        )
    return shape


def _checked_path(weights: str | os.PathLike[str] | None) -> str | None:
    if weights is None or weights == "imagenet":
        return None
    path = os.fspath(weights)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"`weights` must be None, 'imagenet' or a file, and {path!r} is no file.")
    if not path.endswith(".h5"):
        raise ValueError(
            f"`weights` {path!r} is no `.h5` or `.weights.h5` file. `keras.models.load_model` reads whole "
            "models."
        )
    return path


def _preprocess(mode: str | None, module: ModuleType) -> Preprocess | None:
    if mode == "own":
        return module.preprocess_input
    if mode in MODES:
        preprocess = keras.applications.imagenet_utils.preprocess_input
        return partial(preprocess, data_format="channels_last", mode=mode)
    if mode is not None:
        options = ", ".join(map(repr, ("own", *MODES)))
        raise ValueError(f"`preprocessing` must be {options} or None, not {mode!r}.")
    return None


def _load(model: keras.Model, path: str, name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        try:
            model.load_weights(path)
        except Exception as error:  # Keras raises many types of errors
            reason = " ".join(str(error).split())
            # Keras distinguishes the two kinds of files by their names.
            renamed = "" if path.endswith(".weights.h5") else " (what `save_weights` wrote is a .weights.h5)"
            raise ValueError(
                f"`weights` {path!r} are not those of {name} with this top{renamed}; Keras says: "
                f"{reason[:300]}"
            ) from error
    # For weights that do not fit, Keras also warns about every layer: these warnings are dropped.
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
