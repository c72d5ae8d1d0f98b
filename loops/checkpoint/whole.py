"""A whole checkpoint: its values, written and then sealed; and read with all that shows damage."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future

import tensorflow as tf

from ..support.beside import beside
from ..support.durable_files import Content, settle, settled
from .errors import reason_of
from .manifest import check_digests, check_sizes, files_in, manifest_of, seal, told_of
from .notes import Note
from .paths import state_in
from .tensor_file import TensorFile, write_state


def write_checkpoint(checkpoint: str, values: dict[str, tf.Tensor], note: Note) -> None:
    """Writes values and a note to a checkpoint's folder, which others then find complete.

    What is written goes to the disk, and its digests are computed, while the rest is being written.

    Args:
        checkpoint: as `CheckpointFolder.make_next` returns it, with what else belongs to it.
        values, note: see `write_state`, which takes the values out.

    Raises:
        OSError: it cannot be written.
        TypeError: JSON cannot hold the note.
    """
    told = told_of(values, note)
    parts: dict[str, Future[Content]] = {}

    def on_part(path: str, name: str) -> None:
        parts[os.path.basename(name)] = settle(path)

    try:
        write_state(state_in(checkpoint), values, note, on_part)
        rest = [name for name in files_in(checkpoint) if name not in parts]
        contents = {name: settled(os.path.join(checkpoint, name)) for name in rest}
        seal(checkpoint, told, contents | {name: part.result() for name, part in parts.items()})
    except (OSError, tf.errors.OpError) as error:
        raise OSError(f"The checkpoint {checkpoint!r} cannot be written: {reason_of(error)}.") from error


def read_whole(
    checkpoint: str, *, digests: bool = False, meanwhile: Callable[[], object] = lambda: None
) -> TensorFile:
    """Reads the values and the note of a complete checkpoint, and recognises damage of any byte.

    Args:
        checkpoint: its folder.
        meanwhile: called while threads read the values, unless damage shows before.
        digests: whether to compare the SHA-256 of all files. Otherwise values are left to TensorFlow, which
            compares a CRC32C of each as it reads it.

    Raises:
        DamagedError: a file is not what was written.
        ValueError: a newer version of gradloop wrote it, or something else.
    """
    manifest = manifest_of(checkpoint)
    if manifest is None:  # of format 1
        return TensorFile(state_in(checkpoint), meanwhile)
    check_sizes(checkpoint, manifest)
    values = f"{os.path.basename(state_in(checkpoint))}.data-"
    names = [name for name in manifest["files"] if digests or not name.startswith(values)]
    checked = beside(check_digests, checkpoint, manifest, names)
    try:
        return TensorFile(state_in(checkpoint), meanwhile)
    finally:
        checked.result()  # whose error is the one to raise, as it names the file
