"""What is known of a checkpoint without reading its values, whatever its format."""

from __future__ import annotations

import datetime
import os

import tensorflow as tf

from ...optim.common.readable import readable
from .errors import DamagedError
from .manifest import Manifest, manifest_of, time_text
from .paths import state_in
from .tensor_file import note_of


def summary_of(checkpoint: str) -> Manifest:
    """The manifest of a complete checkpoint; of one of format 1 what it would have said, without digests.

    Raises:
        DamagedError: it cannot be read.
        ValueError: a newer version of gradloop wrote it.
    """
    return manifest_of(checkpoint) or _of_format_1(checkpoint)


def _of_format_1(checkpoint: str) -> Manifest:
    path = state_in(checkpoint)
    note = note_of(path)
    if note is None:
        raise DamagedError(checkpoint, f"{os.path.basename(path)} cannot be read")
    run = note.get("run")
    written = tf.io.gfile.stat(f"{path}.index").mtime_nsec / 1e9
    with readable(path) as place:
        step = int(tf.compat.v1.train.NewCheckpointReader(place).get_tensor("batches_done"))
    return {
        "format": 1,
        "versions": {},
        "step": step,
        "epoch": (run or note.get("data") or {}).get("epoch"),
        "date": time_text(datetime.datetime.fromtimestamp(written, datetime.timezone.utc)),
        "metrics": run["logs"] if run is not None and not run["batch"] else {},
        "modes": {},
        "files": {
            name: {"bytes": tf.io.gfile.stat(os.path.join(checkpoint, name)).length, "sha256": ""}
            for name in sorted(tf.io.gfile.listdir(checkpoint))
        },
        "sha256": "",
    }
