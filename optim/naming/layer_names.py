"""Names of sibling layers that are the same in every process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import keras

from ..private import keras_private


def stable_layer_names(layers: Sequence[keras.layers.Layer]) -> list[str]:
    """Names of sibling layers with Keras' automatic numbers counted anew, in the given order.

    Names of the user's own stay as they are and are never handed out to another layer.
    """
    automatic = [keras_private.has_automatic_name(layer) for layer in layers]
    reserved = {layer.name for layer, auto in zip(layers, automatic) if not auto}
    used: set[str] = set()
    counters: Counter[str] = Counter()
    names = []
    for layer, auto in zip(layers, automatic):
        name = layer.name
        if auto:
            base = keras_private.automatic_name(type(layer))
            name = _numbered(base, counters[base])
            while name in reserved or name in used:
                counters[base] += 1
                name = _numbered(base, counters[base])
            counters[base] += 1
        names.append(unique_name(name, used))
    return names


def unique_name(name: str, used: set[str]) -> str:
    """`name`, or the first of `name_1`, `name_2`, ... that is not in `used`; adds it there."""
    number = 0
    while _numbered(name, number) in used:
        number += 1
    used.add(_numbered(name, number))
    return _numbered(name, number)


def _numbered(base: str, number: int) -> str:
    return f"{base}_{number}" if number else base
