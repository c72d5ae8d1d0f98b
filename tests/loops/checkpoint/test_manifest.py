"""`manifest.json`: what it says of a checkpoint, that it comes last, and that damage shows."""

import datetime
import hashlib
import json
import os
import platform
import shutil
from importlib import metadata

import keras
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.checkpoint.errors import DamagedError
from gradloop.loops.checkpoint.manifest import read_manifest
from gradloop.loops.checkpoint.whole import read_whole


def manifest_in(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_what_it_says_of_a_run(tiny, tmp_path):
    step = tiny.step(metrics=["accuracy", keras.metrics.MeanAbsoluteError(name="mae")])
    run = {
        "validation": tiny.data(),
        "checkpoint": loops.Checkpoint(tmp_path, every_steps=2, verbose=0, keep=9),
    }
    history = loops.train(step, tiny.data(), epochs=2, **run).history
    within, ended = (manifest_in(tmp_path / f"checkpoint-{number}") for number in (1, 2))
    assert (within["step"], within["epoch"], within["metrics"]) == (2, 0, {})
    assert (ended["step"], ended["epoch"], ended["format"]) == (3, 1, 2)
    assert ended["metrics"] == {name: values[0] for name, values in history.items()}
    assert ended["modes"] == {
        f"{of}{name}": way
        for of in ("", "val_")
        for name, way in (("loss", "min"), ("accuracy", "max"), ("mae", "min"))
    }
    assert ended["versions"] == {
        "gradloop": metadata.version("gradloop"),
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "Python": platform.python_version(),
    }
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(ended["date"])
    assert datetime.timedelta() <= age < datetime.timedelta(minutes=5)


@pytest.mark.parametrize("source", ["data", "dataset"])
def test_files_have_their_sizes_and_digests(tiny, source, tmp_path):
    folder = tmp_path / "kept"
    place = loops.Checkpoint(folder).save(tiny.step(), iter(getattr(tiny, source)()))
    told = manifest_in(folder / "checkpoint-1")
    contents = {
        path.name: path.read_bytes() for path in (folder / "checkpoint-1").iterdir() if path.suffix != ".json"
    }
    assert told["files"] == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    assert ("iterator.index" in contents) == (source == "dataset")
    assert (told["step"], told["metrics"]) == (0, {})
    assert told["epoch"] == (0 if source == "data" else None)
    assert read_manifest(place) == told


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A checkpoint with a dataset's iterator, which nobody changes."""
    step = loops.TrainStep(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), "mse", "sgd")
    data = tf.data.Dataset.range(5).shuffle(5)
    return loops.Checkpoint(tmp_path_factory.mktemp("written")).save(step, iter(data))


def damages(content):
    """Each way to cut it at a tenth, and to change one byte at a tenth: name -> what is left."""
    for tenth in range(10):
        at = len(content) * tenth // 10
        yield f"cut at {at}", content[:at]
        yield f"changed at {at}", content[:at] + bytes([content[at] ^ 0x04]) + content[at + 1 :]
    yield "longer", content + b"\0"
    yield "removed", None


def test_damage_of_each_file_shows(written, tmp_path):
    names = sorted(os.listdir(written))
    assert len(names) == 5
    whole = read_whole(written)
    for name in names:
        place = tmp_path / name
        shutil.copytree(written, place)
        content = (place / name).read_bytes()
        for how, damaged in damages(content):
            if damaged is None:
                (place / name).unlink()
            else:
                (place / name).write_bytes(damaged)
            if damaged is None and name == "manifest.json":
                continue  # then it is not complete
            with pytest.raises(DamagedError, match=name.partition(".")[0]):
                read_whole(str(place))
                raise AssertionError(f"{name} {how}")
        (place / name).write_bytes(content)
        assert read_whole(str(place)).metadata == whole.metadata


def test_one_without_its_manifest_is_not_complete(kept):
    checkpoint = loops.Checkpoint(kept)
    assert checkpoint.newest == str(kept / "checkpoint-2")
    (kept / "checkpoint-2" / "manifest.json").unlink()
    assert checkpoint.newest == str(kept / "checkpoint-1")


def test_a_newer_format_is_refused(tiny, kept):
    path = kept / "checkpoint-2" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3}))
    with pytest.raises(
        ValueError, match="checkpoint-2' has the format 3, of a newer version .* formats up to 2"
    ):
        loops.Checkpoint(kept).restore(tiny.step())


def test_a_checkpoint_in_memory(tiny):
    """As on any file system that TensorFlow alone knows."""
    step, folder = tiny.step(), f"ram://kept-{os.getpid()}"
    checkpoint = loops.Checkpoint(folder)
    place = checkpoint.save(step, iter(tiny.data()))
    assert place == checkpoint.newest == f"{folder}/checkpoint-1"
    assert checkpoint.restore(step, tiny.data()).position == 0
    assert sorted(read_manifest(place)["files"]) == ["state.data-00000-of-00001", "state.index"]
