"""A file of named values with metadata: what a checkpoint is made of.

TensorFlow writes it, so it may lie on any file system that TensorFlow knows, each value has a checksum, and
`tf.train.list_variables` and `tf.train.load_variable` read it. Nothing in it is ever run.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.messages import first_few
from ...optim.common.readable import readable
from ...optim.common.types import Array, Json
from ..support.background import in_background
from ..support.durable_files import is_local
from .errors import DamagedError, newer_format, reason_of
from .metadata import FORMAT, Metadata

# Names that begin so are not those of variables.
OWN = "gradloop/"
_METADATA = OWN + "note"
# Bytes after which a file goes on in another part, or a sixteenth of all if that is more: the part before
# reaches the disk meanwhile, and what is left to do after the last one is little.
PART = 24 << 20
_READERS = 4  # threads, at most, that read a file
# What TensorFlow raises for a file that is cut short or otherwise damaged.
_DAMAGE = (tf.errors.OpError, IndexError, RuntimeError, UnicodeDecodeError, json.JSONDecodeError)


def write_state(
    path: str,
    values: dict[str, tf.Tensor],
    metadata: Metadata,
    on_part: Callable[[str, str], None] = lambda part, name: None,
) -> None:
    """Writes the file; if the process ends meanwhile, there is either a whole file under `path` or none.

    Args:
        path: of the file, in a folder that exists; TensorFlow adds endings to it.
        values: as `in_memory` gives them. They are taken out as they are written, so that memory which nobody
            else holds is free again.
        metadata: what JSON can hold, else TypeError; numbers may be NumPy's.
        on_part: is called when a part of a large file is written, with its path, and the one that it gets in
            the end.

    Raises:
        tf.errors.OpError: it cannot be written.
    """
    values[_METADATA] = tf.constant(as_json({"format": FORMAT, **metadata}))
    parts = _parts(path, values)
    with tf.device("CPU"):
        if len(parts) == 1:
            _write(path, parts[0], values)
            return
        made = [f"{path}_temp/part-{number}" for number in range(len(parts))]
        for number, names in enumerate(parts):
            _write(made[number], names, values)
            on_part(f"{made[number]}.data-00000-of-00001", f"{path}.data-{number:05}-of-{len(parts):05}")
        tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=made, destination_prefix=path)


def in_memory(values: Mapping[str, tf.Tensor | Array]) -> dict[str, tf.Tensor]:
    """Values as they are now, in this process' own memory, whatever is written to arrays and variables later.

    Arrays are copied. A tensor that was read from a variable on a CPU is not: TensorFlow gives the variable
    other memory when it changes and the tensor is still there.
    """
    with tf.device("CPU"):
        here = tf.constant(0).device
        return {
            name: value if tf.is_tensor(value) and value.device == here else tf.identity(value)
            for name, value in values.items()
        }


def _parts(path: str, values: Mapping[str, tf.Tensor]) -> list[list[str]]:
    """Names of values that are written together: all, or where files may be renamed at no cost, some MB."""
    sizes = {name: values[name].shape.num_elements() * values[name].dtype.size for name in sorted(values)}
    parts, size, enough = [list[str]()], 0, max(PART, sum(sizes.values()) // 16)
    for name in sizes:
        if size > enough and is_local(path) and os.name != "nt":
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += sizes[name]
    return parts


def _write(path: str, names: Sequence[str], values: dict[str, tf.Tensor]) -> None:
    tensors = [values.pop(name) for name in names]
    tf.raw_ops.SaveV2(prefix=path, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)


def as_json(value: object) -> str:
    """JSON of metadata or a part of one; TypeError for what would not come back as it was."""
    _check_keys(value)
    return json.dumps(value, default=_number)


def _check_keys(value: object) -> None:
    """Raises TypeError for keys that JSON would turn into text, as it does with numbers."""
    parts: Iterable[object] = value if isinstance(value, (list, tuple)) else ()
    if isinstance(value, dict):
        parts = value.values()
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text")
    for part in parts:
        if isinstance(part, (dict, list, tuple)):
            _check_keys(part)


def read_metadata(path: str) -> Metadata | None:
    """The metadata alone of a file that `write_state` wrote; None if it cannot be read."""
    try:
        with readable(path) as place:
            reader = tf.compat.v1.train.NewCheckpointReader(place)
            return cast(Metadata, json.loads(reader.get_tensor(_METADATA).decode()))
    except _DAMAGE:
        return None


def is_written(path: str) -> bool:
    """Whether a whole file is under `path`."""
    return bool(tf.io.gfile.exists(f"{path}.index"))


class TensorFile:
    """What `write_state` wrote, read as a whole: damage shows before anything is assigned.

    Args:
        path: as given to `write_state`.
        meanwhile: called while threads read the values.

    Attributes:
        path, metadata, values: as given to `write_state`.

    Raises:
        DamagedError: it cannot be read.
        ValueError: not gradloop wrote it, or a newer version.
    """

    def __init__(self, path: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.path = path
        with readable(path) as place:
            # First what needs Python, for which threads would have to wait.
            with _damage_told(path):
                reader = tf.compat.v1.train.NewCheckpointReader(place)
                dtypes = reader.get_variable_to_dtype_map()
                if dtypes.pop(_METADATA, None) is None:
                    raise ValueError(f"The checkpoint {path!r} was not written by gradloop.")
                self.metadata = cast(Metadata, json.loads(reader.get_tensor(_METADATA).decode()))
                if self.metadata.get("format", 0) > FORMAT:
                    raise newer_format(os.path.dirname(path), self.metadata["format"])
                shapes = reader.get_variable_to_shape_map()
            sizes = {name: math.prod(shapes[name]) * dtype.size for name, dtype in dtypes.items()}
            names, count = sorted(sizes, key=sizes.__getitem__), min(
                _READERS, 1 + sum(sizes.values()) // PART
            )
            parts = [{name: dtypes[name] for name in names[number::count]} for number in range(count)]
            threads = [in_background(_read, place, part) for part in parts]
            meanwhile()
            with _damage_told(path):
                found = collections.ChainMap(*(thread.result() for thread in threads))
            self.values = {name: found[name] for name in sorted(found)}

    def part(self, metadata: Metadata, values: dict[str, tf.Tensor]) -> TensorFile:
        """A file of a part of this one's values, with metadata of its own."""
        part = copy.copy(self)
        part.metadata, part.values = metadata, values
        return part

    def check(self, variables: Mapping[str, keras.Variable | tf.Variable], but: Sequence[str] = ()) -> None:
        """Raises ValueError unless the file holds a value of the right shape and dtype for each variable.

        Values whose name begins with one of `but` need no variable.
        """
        faults, lacks = [], []
        for name, variable in variables.items():
            if name not in self.values:
                lacks.append(name)
            elif not _are_alike(self.values[name], variable):
                faults.append(f"{name} is {_kind(self.values[name])} there and {_kind(variable)} here")
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


@contextlib.contextmanager
def _damage_told(path: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        folder, name = os.path.split(path)
        raise DamagedError(folder, f"{name} cannot be read ({reason_of(error)})") from error


def _read(path: str, dtypes: Mapping[str, tf.DType]) -> dict[str, tf.Tensor]:
    """Values by name; TensorFlow compares the checksum of each, a CRC32C."""
    if not dtypes:  # the operation takes no empty list
        return {}
    names, none = list(dtypes), [""] * len(dtypes)
    with tf.device("CPU"):
        found = tf.raw_ops.RestoreV2(
            prefix=path, tensor_names=names, shape_and_slices=none, dtypes=list(dtypes.values())
        )
    return dict(zip(names, found))


def _are_alike(value: tf.Tensor, variable: keras.Variable | tf.Variable) -> bool:
    own = variable.value if isinstance(variable, keras.Variable) else variable
    if tf.is_tensor(value) and (value.dtype, value.shape) == (own.dtype, own.shape):
        return True  # in a fifth of the time
    return _kind(value) == _kind(variable)


def _kind(value: tf.Tensor | keras.Variable | tf.Variable) -> str:
    return f"{tf.as_dtype(value.dtype).name} {tuple(value.shape)}"


def _number(value: object) -> Json:
    """A number or small array of NumPy's or TensorFlow's, for JSON."""
    array = np.asarray(value)
    if array.dtype.kind in "Oc":
        raise TypeError(
            f"{value!r} of {type(value).__name__} has no place in a checkpoint's metadata, which holds what "
            "is logged and remembered: numbers, text, and lists and dicts of such."
        )
    return array.tolist()
