"""`classifier`: adds a new head to a network."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from ...optim.common.arguments import real_number, whole_number
from ..graph.keras_graph import functional

L = keras.layers


def classifier(
    backbone: keras.Model,
    num_classes: int,
    *,
    pooling: str = "avg",
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> keras.Model:
    """Adds a classifier on top of a network.

    The graph stays flat: the layers of the backbone keep their names, and those of the head begin with
    `head`, so that `"head"` and `~optim.name("head")` are filters for the two.

    Args:
        backbone: a Functional or Sequential model that ends in a feature map, (batch, height, width,
            channels), or in a vector, (batch, features), which is not pooled. Its layers are shared.
        num_classes: at least 2.
        pooling: `"avg"` for the mean over height and width, `"flatten"` for the feature map as one vector.
        hidden: units of the dense ReLU layers before the last.
        dropout: share of units to drop, at least 0 and below 1: after each hidden layer, or after the pooling
            where there is none.

    Returns:
        A Functional model that gives float32 probabilities, (batch, num_classes).

    Raises:
        ValueError: fewer than 2 classes; an unknown pooling; hidden units or a dropout out of range; a
            subclassed model; an output of another rank, or of unknown size where it is to be flattened.
        TypeError: a number of another type.

    Example:
        >>> from gradloop import models, optim
        >>> model = models.classifier(models.backbone("MobileNetV2", (32, 32, 3)), 2, hidden=(256,))
        >>> [variable.path for variable in optim.select(model, "head")]
        ['head_hidden1/kernel', 'head_hidden1/bias', 'head/kernel', 'head/bias']
    """
    graph = functional(backbone)
    num_classes = whole_number("num_classes", num_classes, at_least=2)
    dropout = real_number("dropout", dropout, at_least=0, below=1)
    hidden = [whole_number(f"hidden[{index}]", units, at_least=1) for index, units in enumerate(hidden)]
    features = graph.output
    shape = getattr(features, "shape", ())
    if len(shape) not in (2, 4):
        raise ValueError(
            f"`backbone` {backbone.name!r} must end in one feature map or vector, of rank 4 or 2; it ends in "
            f"{shape if shape else features}."
        )
    if pooling not in ("avg", "flatten"):
        raise ValueError(f"`pooling` must be 'avg' or 'flatten', not {pooling!r}.")
    if len(shape) == 4 and pooling == "avg":
        features = L.GlobalAveragePooling2D(name="head_pool")(features)
    elif len(shape) == 4:
        if not all(shape[1:]):
            raise ValueError(
                f"`pooling='flatten'` needs a feature map of known size, and `backbone` {backbone.name!r} "
                f"gives {shape}: make it with a height and width, or use 'avg'."
            )
        features = L.Flatten(name="head_flatten")(features)
    if dropout and not hidden:
        features = L.Dropout(dropout, name="head_dropout")(features)
    for number, units in enumerate(hidden, 1):
        features = L.Dense(units, activation="relu", name=f"head_hidden{number}")(features)
        if dropout:
            features = L.Dropout(dropout, name=f"head_dropout{number}")(features)
    # Half precision has too few digits for the logarithm of a small probability.
    probabilities = L.Dense(num_classes, activation="softmax", dtype="float32", name="head")(features)
    return keras.Model(graph.input, probabilities, name=f"{backbone.name}_classifier")
