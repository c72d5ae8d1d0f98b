"""The weights alone of a checkpoint: all that a model has, or nothing is loaded."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, models, optim

OLDER = Path(__file__).parent.parent.parent / "older_files" / "checkpoints" / "saved" / "checkpoint-1"


def network(seed=0, units=2, name="head"):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.BatchNormalization(name="norm"), keras.layers.Dropout(0.5, seed=1)]
    return keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(units, name=name)])


def weights(model):
    return {name: variable.numpy() for name, variable in optim.named_variables(model).items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model and a checkpoint of a step that trained it, which nobody changes."""
    model = network()
    step = loops.TrainStep(model, "mse", "adam", metrics=[keras.metrics.AUC()])
    step.state()
    model.get_layer("norm").moving_mean.assign([1.0, 2.0, 3.0])
    return model, loops.Checkpoint(tmp_path_factory.mktemp("saved") / "lr=[0.1]").save(step)


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved[1], tmp_path / "checkpoint-1"))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_the_weights_of_a_step(saved):
    model, place = saved
    other = network(seed=1)
    assert models.load_weights(other, place) == list(weights(model))
    assert_same(weights(other), weights(model))


def test_a_checkpoint_of_format_1():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
    assert models.load_weights(model, OLDER) == ["head/kernel", "head/bias"]
    np.testing.assert_array_equal(
        model.get_weights()[0], tf.train.load_variable(str(OLDER / "state"), "head/kernel")
    )


def test_one_model_of_a_dict(tmp_path):
    one, other, third = network(), network(seed=1, name="top"), network(seed=2, name="top")
    update = loops.Update(keras.optimizers.SGD(), one.trainable_variables)
    checkpoint = loops.Checkpoint(tmp_path)
    place = checkpoint.save({"one": one, "other": other, "update": update, "count": 3}) or ""
    models.load_weights(third, place)
    assert_same(weights(third), weights(other))
    place = checkpoint.save({"one": other, "other": third}) or ""
    with pytest.raises(
        ValueError, match="is a checkpoint of one, other: several are a model with these weights"
    ):
        models.load_weights(network(name="top"), place)
    before = network(name="none", units=5)
    kept = weights(before)
    with pytest.raises(ValueError, match="of another model: it has no none/kernel, none/bias"):
        models.load_weights(before, checkpoint.save({"only": one}) or "")
    assert_same(weights(before), kept)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: network(name="top"),
            "no top/kernel, top/bias; it trained head/kernel, head/bias",
        ),
        (lambda: network(units=4), r"of other shapes than model .*: head/kernel \(3, 2\) for \(3, 4\)"),
        (
            lambda: keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="norm")]),
            "another model: it trained head/kernel, head/bias, which the model has not. Nothing was loaded",
        ),
    ],
)
def test_another_model_is_refused_and_stays_as_it_was(saved, model, message):
    other = model()
    before = weights(other)
    with pytest.raises(ValueError, match=message):
        models.load_weights(other, saved[1])
    assert_same(weights(other), before)


def test_what_is_no_whole_checkpoint_is_refused(copy):
    model = network()
    with pytest.raises(ValueError, match="must end in '.npz', or be the folder of one checkpoint"):
        models.load_weights(model, copy.parent)
    manifest = (copy / "manifest.json").read_text()
    (copy / "manifest.json").unlink()
    with pytest.raises(ValueError, match="is a checkpoint that was not finished: name one before it"):
        models.load_weights(model, copy)
    (copy / "manifest.json").write_text(manifest)
    data = copy / "state.data-00000-of-00001"
    data.write_bytes(bytes(len(data.read_bytes())))
    with pytest.raises(
        ValueError, match=f"or a damaged one: .* Name one .*checkpoint {copy.parent} --verify`"
    ):
        models.load_weights(model, copy)


def test_a_newer_format_is_refused(tmp_path):
    note = json.dumps({"format": 3})
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "state"),
        tensor_names=["gradloop/note"],
        shape_and_slices=[""],
        tensors=[tf.constant(note)],
    )
    with pytest.raises(ValueError, match="has the format 3, of a newer version of gradloop"):
        models.load_weights(network(), tmp_path)
