"""Files that older versions wrote, when each package was one folder of modules, can still be read."""

from __future__ import annotations

import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

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


@pytest.mark.parametrize(
    "kind", [models.LeNet5, optim.GroupedOptimizer, optim.OneCycle, optim.SlantedTriangular]
)
def test_registered_names_do_not_change(kind: type) -> None:
    assert keras.saving.get_registered_name(kind) == f"gradloop>{kind.__name__}"
