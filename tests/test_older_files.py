"""Files that older versions wrote, when each package was one folder of modules, can still be read."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, models, optim

HERE = Path(__file__).parent / "older_files"
KINDS = {
    "Group": optim.Group,
    "KernelDecay": optim.KernelDecay,
    "OneCycle": optim.OneCycle,
    "Plan": optim.Plan,
    "SlantedTriangular": optim.SlantedTriangular,
    "VariableInfo": optim.VariableInfo,
    "SelectionError": optim.SelectionError,
    "NotBuiltError": optim.NotBuiltError,
    "StateError": optim.StateError,
    "layerwise": dict,
    "recommend": models.Strategy,
    "Batches": loops.Batches,
    "Checkpoint": loops.Checkpoint,
    "LabelError": loops.LabelError,
    "NonFiniteError": loops.NonFiniteError,
    "ProgressBar": loops.ProgressBar,
    "Unfreeze": loops.Unfreeze,
} | {
    name: optim.Filter
    for name in ("combined", "from_layer", "kind", "last_layers", "layer_type", "layers", "name")
}


@pytest.fixture
def no_autotuning() -> None:
    """Datasets are as they were saved."""


@pytest.mark.parametrize("name", KINDS)
def test_pickle(name: str) -> None:
    assert isinstance(pickle.loads((HERE / f"{name}.pickle").read_bytes()), KINDS[name])


def test_each_pickle_is_tried() -> None:
    assert {path.stem for path in HERE.glob("*.pickle")} == set(KINDS)


def test_keras_file_trains_on_as_it_would_have() -> None:
    model = keras.saving.load_model(HERE / "grouped.keras")
    assert model.optimizer.plan.groups["body"].lr_scale == 0.1
    x = np.arange(32.0, dtype="float32").reshape(8, 4) / 32
    model.fit(x, np.ones((8, 2), "float32"), verbose=0)
    weights = np.concatenate([variable.numpy().ravel() for variable in model.weights])
    # Written after the same epoch by the version that wrote the file; another processor may sum the examples
    # in another order.
    np.testing.assert_allclose(weights, np.load(HERE / "further.npy"), rtol=1e-5, atol=1e-6)


X = np.linspace(0, 1, 20, dtype="float32").reshape(10, 2)
DATA = {
    "batches": lambda y: loops.Batches(X, y, 2, seed=3),
    "dataset": lambda y: tf.data.Dataset.from_tensor_slices((X, y)).shuffle(10, seed=9).batch(2),
}
# The losses of a run of three epochs by the version that wrote the checkpoints, after 8 of its 15 steps.
LOSSES = {
    "batches": [1.34103981256485, 1.324595245718956, 1.3049534559249878],
    "dataset": [1.3405109226703644, 1.3263512164354325, 1.3039918422698975],
}


@pytest.mark.parametrize("kind", DATA)
def test_run_resumes_from_checkpoint_of_format_1(kind: str, tmp_path: Path) -> None:
    shutil.copytree(HERE / "checkpoints" / kind, tmp_path / kind)
    keras.utils.set_random_seed(1)  # as it was then: the dataset shuffles by it
    layers = [keras.layers.Dense(2, "tanh", name="body"), keras.layers.Dense(1, name="head")]
    step = loops.TrainStep(keras.Sequential([keras.Input((2,)), *layers]), "mse", "adam", metrics=["mae"])
    stop = keras.callbacks.EarlyStopping("loss", restore_best_weights=True, patience=2)
    callbacks = [loops.Unfreeze({0: "head", 7: "body"}, by="step"), stop]
    data = DATA[kind](X.sum(1, keepdims=True))
    history = loops.train(step, data, epochs=3, callbacks=callbacks, checkpoint=tmp_path / kind)
    assert history.epoch == [0, 1, 2] and int(step.batches_done.numpy()) == 15
    assert history.history["loss"][0] == LOSSES[kind][0]  # from the checkpoint itself
    # Each is a mean of sums over a few numbers, which another processor may add in another order.
    np.testing.assert_allclose(history.history["loss"], LOSSES[kind], rtol=1e-5)


def test_a_loop_of_ones_own_goes_on_from_a_checkpoint_of_format_1(tmp_path: Path) -> None:
    shutil.copytree(HERE / "checkpoints" / "saved", tmp_path / "saved")
    state = str(tmp_path / "saved" / "checkpoint-1" / "state")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
    step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1, momentum=0.9))
    x = np.arange(12, dtype="float32").reshape(4, 3)
    checkpoint = loops.Checkpoint(tmp_path / "saved")
    iterator = checkpoint.restore(step, loops.Batches(x, x[:, :2], 2))
    for name, variable in step.state().items():
        np.testing.assert_array_equal(variable.numpy(), tf.train.load_variable(state, name))
    assert int(step.batches_done.numpy()) == 1
    checkpoint.save(step, iterator)
    assert sorted(path.name for path in tmp_path.glob("saved/checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-2",
    ]
    shutil.rmtree(checkpoint.newest or "")
    assert checkpoint.newest == str(tmp_path / "saved" / "checkpoint-1")


@pytest.mark.parametrize(
    "kind", [models.LeNet5, optim.GroupedOptimizer, optim.OneCycle, optim.SlantedTriangular]
)
def test_registered_names_do_not_change(kind: type) -> None:
    assert keras.saving.get_registered_name(kind) == f"gradloop>{kind.__name__}"
