"""A file of named values with a note beside them: what a checkpoint is made of.

It is a file of TensorFlow's, so it lies on any file system that TensorFlow writes to, each value has a
checksum, `tf.train.list_variables` and `tf.train.load_variable` read it, and nothing in it is ever run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ...optim.common.messages import first_few

# Names that begin so are not those of variables.
OWN = "gradloop/"
_NOTE = OWN + "note"
_FORMAT = 1
# What TensorFlow raises for a file that is cut short or otherwise damaged.
_DAMAGE = (tf.errors.OpError, IndexError, RuntimeError, UnicodeDecodeError, json.JSONDecodeError)


def write_state(path: str, values: Mapping[str, Any], note: Mapping[str, Any]) -> None:
    """Writes the file at once: whatever ends the process, what is under `path` then can be read or is none.

    Args:
        path: of the file, in a folder that exists; TensorFlow adds endings to it.
        values: name -> array.
        note: what JSON can hold; numbers may be NumPy's.

    Raises:
        OSError: it cannot be written.
        TypeError: the note holds something else.
    """
    text = json.dumps({"format": _FORMAT, **note}, default=_number)
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


def holds_state(path: str) -> bool:
    """Whether a file was written under `path`, to its end."""
    return bool(tf.io.gfile.exists(f"{path}.index"))


class TensorFile:
    """What `write_state` wrote, read as a whole, so that nothing is found damaged half-way.

    Attributes:
        path: as given.
        note: as given to `write_state`.
        values: likewise.

    Args:
        path: as given to `write_state`.

    Raises:
        ValueError: it cannot be read, or another version of gradloop wrote it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            reader = tf.train.load_checkpoint(path)
            names = set(reader.get_variable_to_shape_map())
            if _NOTE not in names:
                raise ValueError(f"The checkpoint {path!r} was not written by gradloop.")
            self.note: dict[str, Any] = json.loads(reader.get_tensor(_NOTE).decode())
            if self.note.get("format") != _FORMAT:
                raise ValueError(
                    f"The checkpoint {path!r} has the format {self.note.get('format')!r}, of another version "
                    f"of gradloop; this one reads format {_FORMAT}."
                )
            self.values: dict[str, Any] = {
                name: np.asarray(reader.get_tensor(name)) for name in sorted(names - {_NOTE})
            }
        except _DAMAGE as error:
            reason = getattr(error, "message", None) or str(error)
            raise ValueError(
                f"The checkpoint {path!r} cannot be read: {reason}. Its files are damaged or incomplete: "
                "delete its folder to go on from the checkpoint before it."
            ) from error

    def check(self, variables: Mapping[str, Any], but: str = OWN) -> None:
        """Raises ValueError unless the file holds a value of the right shape and dtype for each variable.

        Args:
            variables: name -> variable.
            but: names in the file that begin so need no variable.
        """
        faults = []
        for name, variable in variables.items():
            if name in self.values:
                there, here = _kind(self.values[name]), _kind(variable)
                if there != here:
                    faults.append(f"{name} is {there} there and {here} here")
        lacks = [name for name in variables if name not in self.values]
        if lacks:
            faults.append(f"it has no {first_few(lacks)}")
        strange = [name for name in self.values if name not in variables]
        strange = [name for name in strange if not name.startswith((OWN, but))]
        if strange:
            faults.append(f"it has {first_few(strange)}, which are not there now")
        if faults:
            raise ValueError(
                f"The checkpoint {self.path!r} is of another model, optimizer or step: "
                f"{'; '.join(faults[:5])}. Make them as they were, or name another folder."
            )

    def assign(self, variables: Mapping[str, Any]) -> None:
        """Gives variables their values.

        Args:
            variables: name -> variable, as they passed `check`.
        """
        for name, variable in variables.items():
            variable.assign(self.values[name])


def _kind(value: Any) -> str:
    return f"{tf.as_dtype(value.dtype).name} {tuple(value.shape)}"


def _number(value: Any) -> Any:
    """A number or small array that is not Python's, for JSON."""
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"{value!r} of {type(value).__name__} has no place in a checkpoint's note.")
    return array.tolist()
