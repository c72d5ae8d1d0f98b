"""Automatic names of Keras' layers as in a process that has made none yet."""

from __future__ import annotations

from keras.src.utils.naming import reset_uids


def count_layers_anew() -> None:
    """Has Keras call the next Dense layer "dense".

    `keras.utils.clear_session` does so too, but drops all that TensorFlow has compiled in the process and
    collects garbage, which late in a run of all tests takes up to a minute.
    """
    reset_uids()
