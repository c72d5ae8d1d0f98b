"""Reads the weights of a model from a checkpoint of `loops.Checkpoint`."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ...optim.common.messages import did_you_mean, first_few
from ...optim.common.readable import readable
from ...optim.common.types import Array

_FORMAT = 2  # the newest format that this version reads
_NOTE = "gradloop/note"


def is_checkpoint(path: str) -> bool:
    """Whether a path is the folder of a checkpoint."""
    return bool(tf.io.gfile.exists(f"{path}/state.index"))


def read_checkpoint(path: str, required: Collection[str]) -> dict[str, Array]:
    """Reads a model's weights.

    Args:
        path: the folder of a checkpoint.
        required: the stable names of all weights of the model.

    Returns:
        A value for each of these names.

    Raises:
        ValueError: the checkpoint is damaged, incomplete, of a newer version, or of another model.
    """
    try:
        with readable(f"{path}/state") as place:
            reader = tf.compat.v1.train.NewCheckpointReader(place)
            names = set(reader.get_variable_to_shape_map())
            note = json.loads(reader.get_tensor(_NOTE))
            newest = note["format"]
            if newest > _FORMAT:
                raise ValueError(
                    f"`path` {path!r} has the format {newest}, of a newer version of gradloop: use that "
                    "version."
                )
            if newest == _FORMAT and not tf.io.gfile.exists(f"{path}/manifest.json"):
                raise ValueError(
                    f"`path` {path!r} is a checkpoint that was not finished: name one before it."
                )
            prefix = _prefix(path, note, names, required)
            lacks = [name for name in required if prefix + name not in names]
            unknown = [n.removeprefix(prefix) for n in _trained(note) if n.startswith(prefix)]
            unknown = [name for name in unknown if name not in required]
            if lacks or unknown:
                faults = [f"it has no {first_few(lacks)}"] * bool(lacks)
                faults += [f"it trained {first_few(unknown)}, which the model has not"] * bool(unknown)
                near = did_you_mean(unknown[0], required) if unknown else ""
                raise ValueError(
                    f"`path` {path!r} is a checkpoint of another model: {'; '.join(faults)}.{near} Nothing "
                    "was loaded."
                )
            return {name: np.asarray(reader.get_tensor(prefix + name)) for name in required}
    except (tf.errors.OpError, IndexError, RuntimeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = getattr(error, "message", None) or error
        folder = os.path.dirname(path.rstrip("/")) or "."
        raise ValueError(
            f"`path` {path!r} is no checkpoint, or a damaged one: {reason}. Name one that is whole: `python "
            f"-m gradloop.loops.checkpoint {folder} --verify` tells which are."
        ) from error


def _prefix(path: str, note: Mapping[str, Any], names: Collection[str], required: Collection[str]) -> str:
    """The prefix of the names of the model's weights: '', or the key of the model in a saved dict."""
    if "objects" not in note:
        return ""
    counts = {f"{key}/": sum(f"{key}/{name}" in names for name in required) for key in note["objects"]}
    best = [prefix for prefix, count in counts.items() if count and count == max(counts.values())]
    if len(best) != 1:
        keys = ", ".join(prefix[:-1] for prefix in best or counts)
        raise ValueError(
            f"`path` {path!r} is a checkpoint of {keys}: {'several are' if best else 'none is'} a model with "
            "these weights. `Checkpoint.restore` reads them all. Nothing was loaded."
        )
    return best[0]


def _trained(note: Mapping[str, Any]) -> list[str]:
    """The names of variables that were trained."""
    if "objects" not in note:
        return list(note["choice"]["variables"])
    made = (each["made"].get("variables") for each in note["objects"].values())
    return [name for names in made if isinstance(names, list) for name in names]
