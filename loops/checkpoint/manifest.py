"""`manifest.json`: what a checkpoint holds. It is written last, and so marks a complete one.

It has the size and SHA-256 of each file, and its own SHA-256, so that any later change shows.
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

from ..support.durable_files import Content, content_of, is_local, sync, temporary_name, write_atomically
from ..support.versions import versions
from .errors import DamagedError, newer_format
from .metadata import FORMAT, Metadata

_NAME = "manifest.json"


class Manifest(TypedDict):
    """The fields of the file."""

    format: int
    versions: dict[str, str]  # of gradloop, TensorFlow, Keras, Python
    step: int | None  # batches done in all; None where nothing counts them
    epoch: int | None  # epochs done; None where nothing counts them
    date: str  # ISO 8601, UTC
    metrics: dict[str, float]  # logs of the epoch that ended here; what `save` was given
    modes: dict[str, str]  # "min" or "max" for metrics of which it is known
    files: dict[str, Content]  # by name
    sha256: str  # of all this


def mark_unfinished(checkpoint: str) -> None:
    """Marks a folder as one that is being written; raises OSError or tf.errors.OpError."""
    with tf.io.gfile.GFile(temporary_name(_path(checkpoint)), "w") as file:
        file.write("")  # which makes the file: opening it does not


def manifest_fields(values: Mapping[str, tf.Tensor], metadata: Metadata) -> dict[str, Any]:
    """The fields of the manifest, without the files, for values and metadata that are about to be written."""
    return {
        "format": FORMAT,
        "versions": versions(),
        "step": steps_in(values),
        "epoch": (metadata.get("run") or metadata.get("data") or {}).get("epoch"),
        "date": time_text(datetime.datetime.now(datetime.timezone.utc)),
        "metrics": {
            name: float(value)
            for name, value in metadata.get("metrics", {}).items()
            if isinstance(value, (int, float))  # a callback may log text, or lists
        },
        "modes": metadata.get("modes", {}),
    }


def files_in(checkpoint: str) -> list[str]:
    """The names of the files that a manifest is to list."""
    names = tf.io.gfile.listdir(checkpoint)
    own = os.path.basename(temporary_name(_path(checkpoint)))
    return sorted(name for name in names if name != own and not name.rstrip("/").endswith("_temp"))


def write_manifest(checkpoint: str, fields: Mapping[str, Any], contents: Mapping[str, Content]) -> None:
    """Writes the manifest of a checkpoint whose other files are written.

    On a local file system these are synced before, so that a power cut leaves a complete checkpoint or none.

    Args:
        checkpoint: its folder.
        fields: of `manifest_fields`.
        contents: of each file, by its name.

    Raises:
        OSError, tf.errors.OpError: it cannot be written.
    """
    write_atomically(
        _path(checkpoint), _text({**fields, "files": {name: contents[name] for name in sorted(contents)}})
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


def _text(fields: Mapping[str, Any]) -> str:
    """The text of a manifest, with its own SHA-256."""
    digest = hashlib.sha256(json.dumps(fields).encode()).hexdigest()
    return json.dumps({**fields, "sha256": digest}, indent=1)


def read_manifest(checkpoint: str) -> Manifest | None:
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
        fields = json.loads(content)
        if fields["format"] > FORMAT:
            raise newer_format(checkpoint, fields["format"])
        same = content == _text({name: value for name, value in fields.items() if name != "sha256"}).encode()
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise DamagedError(checkpoint, f"{_NAME} is not what was written")
    return cast(Manifest, fields)


def has_manifest(checkpoint: str) -> bool:
    """Whether a checkpoint has a manifest."""
    return bool(tf.io.gfile.exists(_path(checkpoint)))


def written_at(checkpoint: str) -> int:
    """When the manifest of a checkpoint was written, in nanoseconds; 0 if there is none."""
    if not has_manifest(checkpoint):
        return 0
    if is_local(checkpoint):  # of which TensorFlow tells whole seconds
        return os.stat(_path(checkpoint)).st_mtime_ns
    return int(tf.io.gfile.stat(_path(checkpoint)).mtime_nsec)


def is_unfinished(checkpoint: str) -> bool:
    """Whether a checkpoint was begun and has no manifest yet."""
    return bool(tf.io.gfile.exists(temporary_name(_path(checkpoint))))


def remove_manifest(checkpoint: str) -> None:
    """Removes the manifest: the first step of removing a checkpoint, which is incomplete from then on."""
    if has_manifest(checkpoint):
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
