"""Files of values and metadata: what comes back, and what is refused."""

import math
import os
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.checkpoint.errors import DamagedError
from gradloop.loops.checkpoint.tensor_file import TensorFile, in_memory, is_written, write_state

VALUES = {
    "head/kernel": np.arange(6, dtype="float32").reshape(2, 3),
    "half": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    "none": np.zeros((0, 4), "float16"),
    "count": np.array(2**40, "int64"),
    "on": np.array([True, False]),
    "seed": np.array([1, 2**32 - 1], "uint32"),
}


@pytest.fixture
def path(tmp_path):
    name = str(tmp_path / "state")
    write_state(
        name,
        in_memory(VALUES),
        {"epoch": np.int64(3), "loss": np.float32(0.5), "best": math.inf, "a": [None]},
    )
    return name


def variables(**changed):
    found = {name: tf.Variable(np.zeros_like(value)) for name, value in VALUES.items()}
    return found | changed


def test_values_and_note_come_back(path):
    file, found = TensorFile(path), variables()
    file.check(found)
    for name, variable in found.items():
        variable.assign(file.values[name])
    for name, value in VALUES.items():
        np.testing.assert_array_equal(found[name].numpy(), value)
    assert file.metadata == {"format": 2, "epoch": 3, "loss": 0.5, "best": math.inf, "a": [None]}
    assert is_written(path) and not is_written(path + "x")


def test_tensorflow_reads_it_by_the_same_names(path):
    assert set(VALUES) < {name for name, _ in tf.train.list_variables(path)}
    np.testing.assert_array_equal(tf.train.load_variable(path, "head/kernel"), VALUES["head/kernel"])


def test_keras_variables_take_their_values(path):
    kernel = keras.Variable(np.zeros((2, 3)))
    kernel.assign(TensorFile(path).values["head/kernel"])
    np.testing.assert_array_equal(kernel.numpy(), VALUES["head/kernel"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"head/kernel": tf.Variable(tf.zeros((2, 4)))}, r"float32 \(2, 3\) there and float32 \(2, 4\) here"),
        ({"count": tf.Variable(0)}, r"count is int64 \(\) there and int32 \(\) here"),
        ({"head/bias": tf.Variable(0.0)}, "it has no head/bias"),
    ],
)
def test_other_variables_are_refused(path, changed, message):
    with pytest.raises(ValueError, match=message):
        TensorFile(path).check(variables(**changed))


def test_values_without_a_variable_are_refused(path):
    found = variables()
    del found["half"], found["on"]
    with pytest.raises(ValueError, match="it has half, on, which are not there now. Make them as they were"):
        TensorFile(path).check(found)
    TensorFile(path).check(found | {"on": tf.Variable([True, True])}, but="hal")


def damage(path, how):
    data, index = f"{path}.data-00000-of-00001", f"{path}.index"
    with open(index if how == "index" else data, "r+b") as file:
        content = file.read()
        file.seek(0)
        if how == "flipped":
            file.write(bytes([content[0] ^ 1]))
        else:
            file.truncate(len(content) // 2)


@pytest.mark.parametrize("how", ["cut", "flipped", "index"])
def test_a_damaged_file_is_refused_before_anything_is_assigned(path, how):
    damage(path, how)
    found = variables()
    with pytest.raises(ValueError, match="is damaged: state cannot be read .*. Delete its folder to go on"):
        TensorFile(path).assign(found)
    assert not any(np.any(variable.numpy()) for variable in found.values())


def test_each_byte_of_the_values_is_checked(tmp_path):
    """By TensorFlow, as it reads them; so no digest of them need be computed."""
    path = str(tmp_path / "state")
    write_state(path, in_memory(VALUES), {})
    place = Path(f"{path}.data-00000-of-00001")
    content = place.read_bytes()
    assert len(content) < 100
    for at in range(len(content)):
        place.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(DamagedError):
            TensorFile(path)
    place.write_bytes(content)
    TensorFile(path)


def test_a_large_file_is_written_in_parts(tmp_path, monkeypatch):
    """Which TensorFlow reads as one; what is in memory is free as soon as it is written."""
    monkeypatch.setattr("gradloop.loops.checkpoint.tensor_file.PART", 10)
    path, seen, values = str(tmp_path / "state"), [], in_memory(VALUES)

    def on_part(part, name):
        seen.append((Path(name).name, Path(part).read_bytes(), len(values)))

    write_state(path, values, {"a": 1}, on_part)
    names = [f"state.data-{number:05}-of-{len(seen):05}" for number in range(len(seen))]
    assert len(seen) > 2 and sorted(os.listdir(tmp_path)) == [*names, "state.index"]
    assert [(name, (tmp_path / name).read_bytes()) for name in names] == [each[:2] for each in seen]
    assert [left for *_, left in seen] == sorted((left for *_, left in seen), reverse=True) and not values
    file = TensorFile(path, meanwhile=lambda: seen.append("read"))
    assert file.metadata["a"] == 1 and seen.pop() == "read"
    for name, value in VALUES.items():
        np.testing.assert_array_equal(file.values[name], value)


def test_a_larger_file_is_in_no_more_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("gradloop.loops.checkpoint.tensor_file.PART", 10)
    values, seen = {f"{number}": np.zeros(1, "float32") for number in range(200)}, []
    write_state(str(tmp_path / "state"), in_memory(values), {}, lambda *part: seen.append(part))
    assert 10 < len(seen) < 20 and TensorFile(str(tmp_path / "state")).values.keys() == values.keys()


def test_values_in_memory_are_those_of_now():
    array, variable = np.zeros(100), tf.Variable(tf.zeros(100))
    held = in_memory({"array": array, "variable": variable.read_value(), "number": np.float32(2)})
    array[:], _ = 1, variable.assign_add(tf.ones(100))
    assert not np.any(held["array"]) and not np.any(held["variable"]) and held["number"] == 2
    assert {value.device.rpartition("/")[2] for value in held.values()} == {"device:CPU:0"}


def test_a_file_of_another_origin_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        TensorFile(str(tmp_path / "nothing"))
    tf.train.Checkpoint(value=tf.Variable(1.0)).write(str(tmp_path / "other"))
    with pytest.raises(ValueError, match="was not written by gradloop"):
        TensorFile(str(tmp_path / "other"))
    write_state(str(tmp_path / "later"), {}, {"format": 99})
    with pytest.raises(ValueError, match="has the format 99, of a newer version"):
        TensorFile(str(tmp_path / "later"))


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(tf.errors.OpError, match="file/state"):
        write_state(str(tmp_path / "file" / "state"), in_memory(VALUES), {})
    for value in ({1, 2}, 1j):
        with pytest.raises(
            TypeError, match="has no place in a checkpoint's metadata, which holds what is logged"
        ):
            write_state(str(tmp_path / "state"), in_memory(VALUES), {"callback": value})
    assert not is_written(str(tmp_path / "state"))
