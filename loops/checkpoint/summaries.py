"""What is known of a checkpoint without reading its values, whatever its format."""

from __future__ import annotations

import datetime
import os

import tensorflow as tf

from ...optim.common.readable import readable
from .errors import DamagedError
from .manifest import Manifest, read_manifest, time_text
from .paths import state_in
from .tensor_file import read_metadata


def summary_of(checkpoint: str) -> Manifest:
    """The manifest of a complete checkpoint; of one of format 1 what it would have said, without digests.

    Raises:
        DamagedError: it cannot be read.
        ValueError: a newer version of gradloop wrote it.
    """
    return read_manifest(checkpoint) or _of_format_1(checkpoint)


def _of_format_1(checkpoint: str) -> Manifest:
    path = state_in(checkpoint)
    metadata = read_metadata(path)
    if metadata is None:
        raise DamagedError(checkpoint, f"{os.path.basename(path)} cannot be read")
    run = metadata.get("run")
    written = tf.io.gfile.stat(f"{path}.index").mtime_nsec / 1e9
    with readable(path) as place:
        step = int(tf.compat.v1.train.NewCheckpointReader(place).get_tensor("batches_done"))
    return {
        "format": 1,
        "versions": {},
        "step": step,
        "epoch": (run or metadata.get("data") or {}).get("epoch"),
        "date": time_text(datetime.datetime.fromtimestamp(written, datetime.timezone.utc)),
        "metrics": run["logs"] if run is not None and not run["batch"] else {},
        "modes": {},
        "files": {
            name: {"bytes": tf.io.gfile.stat(os.path.join(checkpoint, name)).length, "sha256": ""}
            for name in sorted(tf.io.gfile.listdir(checkpoint))
        },
        "sha256": "",
    }
