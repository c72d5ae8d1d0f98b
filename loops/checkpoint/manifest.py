"""`manifest.json`: what a checkpoint holds and when it was made. It is written last: one with it is complete.

It says for each file its size and SHA-256, and so for itself: whatever changed since shows.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, cast

import numpy as np
import tensorflow as tf

from ..support.durable_files import Content, content_of, is_local, sync, unfinished, write_last
from ..support.versions import versions
from .errors import DamagedError, newer_format
from .notes import FORMAT, Note

_NAME = "manifest.json"


class Manifest(TypedDict):
    """What it says."""

    format: int
    versions: dict[str, str]  # of gradloop, TensorFlow, Keras, Python
    step: int | None  # batches done in all; None where nothing counts them
    epoch: int | None  # epochs done; None where nothing counts them
    date: str  # ISO 8601, UTC
    metrics: dict[str, float]  # logs of the epoch that ended here; what `save` was given
    modes: dict[str, str]  # "min" or "max" for metrics of which it is known
    files: dict[str, Content]  # by name
    sha256: str  # of all this


def begin(checkpoint: str) -> None:
    """Marks a folder as one that is being written; raises OSError or tf.errors.OpError."""
    with tf.io.gfile.GFile(unfinished(_path(checkpoint)), "w") as file:
        file.write("")  # which makes the file: opening it does not


def told_of(values: Mapping[str, tf.Tensor], note: Note) -> dict[str, Any]:
    """What the manifest says of values and a note that are about to be written."""
    return {
        "format": FORMAT,
        "versions": versions(),
        "step": steps_in(values),
        "epoch": (note.get("run") or note.get("data") or {}).get("epoch"),
        "date": time_text(datetime.datetime.now(datetime.timezone.utc)),
        "metrics": {
            name: float(value)
            for name, value in note.get("metrics", {}).items()
            if isinstance(value, (int, float))  # a callback may log text, or lists
        },
        "modes": note.get("modes", {}),
    }


def files_in(checkpoint: str) -> list[str]:
    """The names of the files that a manifest is to list."""
    names = tf.io.gfile.listdir(checkpoint)
    own = os.path.basename(unfinished(_path(checkpoint)))
    return sorted(name for name in names if name != own and not name.rstrip("/").endswith("_temp"))


def seal(checkpoint: str, told: Mapping[str, Any], contents: Mapping[str, Content]) -> None:
    """Writes the manifest of a checkpoint whose files are written.

    On a local file system these are on the disk before it, so that a power cut leaves it complete or not.

    Args:
        checkpoint: its folder.
        told: by `told_of`.
        contents: by the name of each file.

    Raises:
        OSError, tf.errors.OpError: it cannot be written.
    """
    write_last(
        _path(checkpoint), _text({**told, "files": {name: contents[name] for name in sorted(contents)}})
    )
    sync(os.path.dirname(checkpoint))


def steps_in(values: Mapping[str, tf.Tensor]) -> int | None:
    """How many batches are done, or else how many updates an optimizer has made; None if nothing counts."""
    for name in ("batches_done", "iteration"):
        found = [np.asarray(value) for key, value in values.items() if key.rpartition("/")[2] == name]
        counts = [int(value) for value in found if value.ndim == 0 and value.dtype.kind in "iu"]
        if counts:
            return max(counts)
    return None


def time_text(moment: datetime.datetime) -> str:
    """ISO 8601, to the second."""
    return moment.isoformat(timespec="seconds")


def _text(told: Mapping[str, Any]) -> str:
    """The text of a manifest, with the digest of what it says."""
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    return json.dumps({**told, "sha256": digest}, indent=1)


def manifest_of(checkpoint: str) -> Manifest | None:
    """Reads it; None if there is none.

    Raises:
        DamagedError: it is not what was written.
        ValueError: a newer version of gradloop wrote it.
    """
    try:
        with tf.io.gfile.GFile(_path(checkpoint), "rb") as file:
            content = file.read()
    except tf.errors.NotFoundError:
        return None
    except tf.errors.OpError as error:
        raise DamagedError(checkpoint, f"{_NAME} cannot be read ({error.message})") from error
    try:
        told = json.loads(content)
        if told["format"] > FORMAT:
            raise newer_format(checkpoint, told["format"])
        same = content == _text({name: value for name, value in told.items() if name != "sha256"}).encode()
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise DamagedError(checkpoint, f"{_NAME} is not what was written")
    return cast(Manifest, told)


def is_sealed(checkpoint: str) -> bool:
    """Whether a checkpoint has a manifest."""
    return bool(tf.io.gfile.exists(_path(checkpoint)))


def written_at(checkpoint: str) -> int:
    """When the manifest of a checkpoint was written, in nanoseconds; 0 if there is none."""
    if not is_sealed(checkpoint):
        return 0
    if is_local(checkpoint):  # of which TensorFlow tells whole seconds
        return os.stat(_path(checkpoint)).st_mtime_ns
    return int(tf.io.gfile.stat(_path(checkpoint)).mtime_nsec)


def is_begun(checkpoint: str) -> bool:
    """Whether somebody has begun to write a checkpoint and has not sealed it."""
    return bool(tf.io.gfile.exists(unfinished(_path(checkpoint))))


def unseal(checkpoint: str) -> None:
    """Removes the manifest, the first thing to go of a checkpoint that is removed."""
    if is_sealed(checkpoint):
        tf.io.gfile.remove(_path(checkpoint))


def check_sizes(checkpoint: str, manifest: Manifest) -> None:
    """Raises DamagedError if a file is not there or has another size."""
    for name, wanted in manifest["files"].items():
        try:
            found = tf.io.gfile.stat(os.path.join(checkpoint, name)).length
        except tf.errors.OpError as error:
            raise DamagedError(checkpoint, f"{name} cannot be read ({error.message})") from error
        if found != wanted["bytes"]:
            raise DamagedError(checkpoint, f"{name} has {found} bytes instead of {wanted['bytes']}")


def check_digests(checkpoint: str, manifest: Manifest, names: Iterable[str]) -> None:
    """Reads files, and raises DamagedError if one is not what was written."""
    for name in names:
        try:
            found = content_of(os.path.join(checkpoint, name))
        except (OSError, tf.errors.OpError) as error:
            raise DamagedError(checkpoint, f"{name} cannot be read ({error})") from error
        if found != manifest["files"][name]:
            raise DamagedError(checkpoint, f"{name} is not what was written (by its SHA-256)")


def _path(checkpoint: str) -> str:
    return f"{checkpoint}/{_NAME}"
