"""A whole checkpoint: writing its values and then its manifest, and reading it with a check for damage."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future

import tensorflow as tf

from ..support.background import in_background
from ..support.durable_files import Content, start_sync_and_hash, sync_and_hash
from .errors import reason_of
from .manifest import check_digests, check_sizes, files_in, manifest_fields, read_manifest, write_manifest
from .metadata import Metadata
from .paths import state_in
from .tensor_file import TensorFile, write_state


def write_checkpoint(checkpoint: str, values: dict[str, tf.Tensor], metadata: Metadata) -> None:
    """Writes values and metadata to the folder of a checkpoint, which is complete then.

    Parts that are written are synced and hashed while the rest is being written.

    Args:
        checkpoint: as `CheckpointFolder.make_next` returns it, with what else belongs to it.
        values, metadata: see `write_state`, which takes the values out.

    Raises:
        OSError: it cannot be written.
        TypeError: JSON cannot hold the metadata.
    """
    fields = manifest_fields(values, metadata)
    parts: dict[str, Future[Content]] = {}

    def on_part(path: str, name: str) -> None:
        parts[os.path.basename(name)] = start_sync_and_hash(path)

    try:
        write_state(state_in(checkpoint), values, metadata, on_part)
        rest = [name for name in files_in(checkpoint) if name not in parts]
        contents = {name: sync_and_hash(os.path.join(checkpoint, name)) for name in rest}
        write_manifest(checkpoint, fields, contents | {name: part.result() for name, part in parts.items()})
    except (OSError, tf.errors.OpError) as error:
        raise OSError(f"The checkpoint {checkpoint!r} cannot be written: {reason_of(error)}.") from error


def read_whole(
    checkpoint: str, *, digests: bool = False, meanwhile: Callable[[], object] = lambda: None
) -> TensorFile:
    """Reads the values and the metadata of a complete checkpoint, and recognises damage of any byte.

    Args:
        checkpoint: its folder.
        meanwhile: called while threads read the values, unless damage shows before.
        digests: whether to compare the SHA-256 of all files. Otherwise values are left to TensorFlow, which
            compares a CRC32C of each as it reads it.

    Raises:
        DamagedError: a file is not what was written.
        ValueError: a newer version of gradloop wrote it, or something else.
    """
    manifest = read_manifest(checkpoint)
    if manifest is None:  # of format 1
        return TensorFile(state_in(checkpoint), meanwhile)
    check_sizes(checkpoint, manifest)
    values = f"{os.path.basename(state_in(checkpoint))}.data-"
    names = [name for name in manifest["files"] if digests or not name.startswith(values)]
    checked = in_background(check_digests, checkpoint, manifest, names)
    try:
        return TensorFile(state_in(checkpoint), meanwhile)
    finally:
        checked.result()  # whose error is the one to raise, as it names the file
