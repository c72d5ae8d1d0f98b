"""A whole checkpoint: its values, written and then sealed; and read with all that shows damage."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from ...optim.common.types import Array
from .manifest import check_digests, check_sizes, manifest_of, seal
from .notes import Note
from .paths import state_in
from .tensor_file import TensorFile, write_state


def write_checkpoint(checkpoint: str, values: Mapping[str, Array], note: Note) -> None:
    """Writes values and a note to a checkpoint's folder, which others then find complete.

    Args:
        checkpoint: as `CheckpointFolder.make_next` returns it, with what else belongs to it.
        values, note: see `write_state`.

    Raises:
        OSError: it cannot be written.
        TypeError: JSON cannot hold the note.
    """
    write_state(state_in(checkpoint), values, note)
    try:
        seal(checkpoint, values, note)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or getattr(error, "strerror", None) or error
        raise OSError(f"The checkpoint {checkpoint!r} cannot be written: {reason}.") from error


def read_whole(checkpoint: str) -> TensorFile:
    """Reads the values and the note of a complete checkpoint, after every check that there is.

    Raises:
        DamagedError: a file is not what was written.
        ValueError: a newer version of gradloop wrote it, or something else.
    """
    manifest = manifest_of(checkpoint)
    if manifest is None:  # of format 1
        return TensorFile(state_in(checkpoint))
    check_sizes(checkpoint, manifest)
    with ThreadPoolExecutor(1) as beside:  # TensorFlow reads while the digests are computed
        file = beside.submit(TensorFile, state_in(checkpoint))
        check_digests(checkpoint, manifest)
    return file.result()
