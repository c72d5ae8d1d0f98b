"""The devices to train on, by name."""

from __future__ import annotations

import tensorflow as tf

from .suggest import did_you_mean

_NAMES = ("auto", "one")


def strategy(spec: str | tf.distribute.Strategy = "auto") -> tf.distribute.Strategy:
    """Returns the `tf.distribute.Strategy` that a name stands for.

    Args:
        spec: "one" for one device, TensorFlow's first GPU or else the CPU; "auto", the same in this
            release; or a strategy of one replica, which is returned as it is.

    Raises:
        ValueError: an unknown name (the message suggests one), or a strategy of several replicas, which
            the steps of this release do not reduce over.

    Example:
        >>> from gradloop import loops
        >>> loops.strategy("one").num_replicas_in_sync
        1
    """
    if isinstance(spec, tf.distribute.Strategy):
        found = spec
    elif spec in _NAMES:
        found = tf.distribute.get_strategy()  # inside a scope, that scope's
    else:
        options = ", ".join(map(repr, _NAMES))
        raise ValueError(
            f"`spec` {spec!r} is no strategy of this release, which has {options}."
            f"{did_you_mean(spec, _NAMES)}"
        )
    if found.num_replicas_in_sync > 1:
        raise ValueError(
            f"`spec` has {found.num_replicas_in_sync} replicas; this release trains on one device. Use "
            "'one' outside of any strategy's scope, or a loop of your own."
        )
    return found
