"""Explains TensorFlow's errors about `tf.summary` in a step that cannot write summaries."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from ..support.tensorflow_private import is_summary_for_xla, lacks_summary_step


def summary_error(error: Exception) -> ValueError | None:
    """The error to raise instead, if an error is about `tf.summary`; else None."""
    if lacks_summary_step(error):
        return ValueError(
            "`tf.summary` was called without a `step` in a step that has no number, as under "
            "`loops.replicated` or on parameter servers: pass one, such as `step=optimizer.iterations`, or "
            "use `loops.record(name, value)`."
        )
    if is_summary_for_xla(error):
        return ValueError(
            "`tf.summary` was called in a step that XLA compiles, which cannot write: pass "
            "`jit_compile=False`, or use `loops.record(name, value)`."
        )
    return None


@contextlib.contextmanager
def explained_summaries() -> Iterator[None]:
    """Turns TensorFlow's errors about `tf.summary`, raised in the body, into those of `summary_error`."""
    try:
        yield
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        explained = summary_error(error)
        if explained is None:
            raise
        raise explained from error
