"""A file of named values with a note beside them: what a checkpoint is made of.

TensorFlow writes it, so it may lie on any file system that TensorFlow knows, each value has a checksum, and
`tf.train.list_variables` and `tf.train.load_variable` read it. Nothing in it is ever run.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.messages import first_few
from ...optim.common.types import Array, Json
from .errors import DamagedError, newer_format
from .notes import FORMAT, Note

# Names that begin so are not those of variables.
OWN = "gradloop/"
_NOTE = OWN + "note"
# What TensorFlow raises for a file that is cut short or otherwise damaged.
_DAMAGE = (tf.errors.OpError, IndexError, RuntimeError, UnicodeDecodeError, json.JSONDecodeError)


def write_state(path: str, values: Mapping[str, Array], note: Note) -> None:
    """Writes the file; if the process ends meanwhile, there is either a whole file under `path` or none.

    Args:
        path: of the file, in a folder that exists; TensorFlow adds endings to it.
        values: name -> array.
        note: what JSON can hold, else TypeError; numbers may be NumPy's.

    Raises:
        OSError: it cannot be written.
    """
    text = as_json({"format": FORMAT, **note})
    tensors = {_NOTE: text, **values}
    try:
        with tf.device("CPU"):
            tf.raw_ops.SaveV2(
                prefix=path,
                tensor_names=list(tensors),
                shape_and_slices=[""] * len(tensors),
                tensors=[tf.convert_to_tensor(value) for value in tensors.values()],
            )
    except tf.errors.OpError as error:
        raise OSError(f"The checkpoint {path!r} cannot be written: {error.message}.") from error


def as_json(value: object) -> str:
    """JSON of a note or a part of one; TypeError for what would not come back as it was."""
    _check_keys(value)
    return json.dumps(value, default=_number)


def _check_keys(value: object) -> None:
    """Raises TypeError for keys that JSON would turn into text, as it does with numbers."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text")
    if isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            _check_keys(part)


def note_of(path: str) -> Note | None:
    """The note alone of a file that `write_state` wrote; None if it cannot be read."""
    try:
        reader = tf.compat.v1.train.NewCheckpointReader(path)
        return cast(Note, json.loads(reader.get_tensor(_NOTE).decode()))
    except _DAMAGE:
        return None


def is_written(path: str) -> bool:
    """Whether a whole file is under `path`."""
    return bool(tf.io.gfile.exists(f"{path}.index"))


class TensorFile:
    """What `write_state` wrote, read as a whole: damage shows before anything is assigned.

    Attributes:
        path, note, values: as given to `write_state`.

    Raises:
        DamagedError: it cannot be read.
        ValueError: not gradloop wrote it, or a newer version.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            reader = tf.compat.v1.train.NewCheckpointReader(path)
            names = set(reader.get_variable_to_shape_map())
            if _NOTE not in names:
                raise ValueError(f"The checkpoint {path!r} was not written by gradloop.")
            self.note = cast(Note, json.loads(reader.get_tensor(_NOTE).decode()))
            if self.note.get("format", 0) > FORMAT:
                raise newer_format(os.path.dirname(path), self.note["format"])
            self.values: dict[str, Array] = {
                name: np.asarray(reader.get_tensor(name)) for name in sorted(names - {_NOTE})
            }
        except _DAMAGE as error:
            reason = getattr(error, "message", None) or str(error)
            folder, name = os.path.split(path)
            raise DamagedError(folder, f"{name} cannot be read ({reason})") from error

    def part(self, note: Note, values: dict[str, Array]) -> TensorFile:
        """A file of a part of this one's values, with a note of its own."""
        part = copy.copy(self)
        part.note, part.values = note, values
        return part

    def check(self, variables: Mapping[str, keras.Variable | tf.Variable], but: Sequence[str] = ()) -> None:
        """Raises ValueError unless the file holds a value of the right shape and dtype for each variable.

        Values whose name begins with one of `but` need no variable.
        """
        faults, lacks = [], []
        for name, variable in variables.items():
            if name not in self.values:
                lacks.append(name)
            elif (there := _kind(self.values[name])) != (here := _kind(variable)):
                faults.append(f"{name} is {there} there and {here} here")
        if lacks:
            faults.append(f"it has no {first_few(lacks)}")
        strange = [name for name in self.values if name not in variables and not name.startswith((OWN, *but))]
        if strange:
            faults.append(f"it has {first_few(strange)}, which are not there now")
        if faults:
            raise ValueError(
                f"The checkpoint {self.path!r} is of another model, optimizer or step: "
                f"{'; '.join(faults[:5])}. Make them as they were, or name another folder."
            )


def _kind(value: Array | keras.Variable | tf.Variable) -> str:
    return f"{tf.as_dtype(value.dtype).name} {tuple(value.shape)}"


def _number(value: object) -> Json:
    """A number or small array of NumPy's or TensorFlow's, for JSON."""
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"{value!r} of {type(value).__name__} has no place in a checkpoint's note.")
    return array.tolist()
