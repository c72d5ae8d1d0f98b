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

from ..optim.matching import shortened

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


class StateFile:
    """What `write_state` wrote, opened to be read.

    Attributes:
        path: as given.
        note: as given to `write_state`.

    Args:
        path: as given to `write_state`.

    Raises:
        ValueError: it cannot be read, or another version of gradloop wrote it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._reader = tf.train.load_checkpoint(path)
            self._shapes = dict(self._reader.get_variable_to_shape_map())
            if self._shapes.pop(_NOTE, None) is None:
                raise ValueError(f"The checkpoint {path!r} was not written by gradloop.")
            self.note: dict[str, Any] = json.loads(self._reader.get_tensor(_NOTE).decode())
        except _DAMAGE as error:
            raise self._damaged(error) from error
        if self.note.get("format") != _FORMAT:
            raise ValueError(
                f"The checkpoint {path!r} has the format {self.note.get('format')!r}, of another version of "
                f"gradloop; this one reads format {_FORMAT}."
            )

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """Returns one value.

        Raises:
            ValueError: it is damaged.
        """
        try:
            return np.asarray(self._reader.get_tensor(name))
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def check(self, variables: Mapping[str, Any], but: str = OWN) -> None:
        """Raises ValueError unless the file holds a value of the right shape and dtype for each variable.

        Args:
            variables: name -> variable.
            but: names in the file that begin so need no variable.
        """
        dtypes = self._reader.get_variable_to_dtype_map()
        faults = []
        for name, variable in variables.items():
            if name in self._shapes:
                there = _kind(self._shapes[name], dtypes[name])
                here = _kind(variable.shape, variable.dtype)
                if there != here:
                    faults.append(f"{name} is {there} there and {here} here")
        lacks = [name for name in variables if name not in self._shapes]
        if lacks:
            faults.append(f"it has no {shortened(lacks)}")
        strange = [name for name in self._shapes if name not in variables]
        strange = sorted(name for name in strange if not name.startswith((OWN, but)))
        if strange:
            faults.append(f"it has {shortened(strange)}, which are not there now")
        if faults:
            raise ValueError(
                f"The checkpoint {self.path!r} is of another model, optimizer or step: "
                f"{'; '.join(faults[:5])}. Make them as they were, or name another folder."
            )

    def assign(self, variables: Mapping[str, Any]) -> None:
        """Gives variables their values: all of them, or none if the file is damaged.

        Args:
            variables: name -> variable, as they passed `check`.

        Raises:
            ValueError: a value is damaged.
        """
        values = {name: self.read(name) for name in variables}
        for name, variable in variables.items():
            variable.assign(values[name])

    def _damaged(self, error: Exception) -> ValueError:
        reason = getattr(error, "message", None) or str(error)
        return ValueError(
            f"The checkpoint {self.path!r} cannot be read: {reason}. Its files are damaged or incomplete: "
            "delete its folder to go on from the checkpoint before it."
        )


def _kind(shape: Any, dtype: Any) -> str:
    return f"{tf.as_dtype(dtype).name} {tuple(shape)}"


def _number(value: Any) -> Any:
    """A number or small array that is not Python's, for JSON."""
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"{value!r} of {type(value).__name__} has no place in a checkpoint's note.")
    return array.tolist()
