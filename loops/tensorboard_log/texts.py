"""Command line, versions, settings, plan and variables of a run, for the tab Text."""

from __future__ import annotations

import math
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from ...optim import summary
from ..data.batches import Batches
from ..distribute.scope import replicas_of
from ..step.train_step import TrainStep
from ..step.trainable import plan_of
from ..support.keras_private import random_seed
from ..support.versions import versions
from .content import Board, Content
from .values import Value, text_value

# Up to this many parameters, the norms in the table of variables cost next to nothing.
_MAX_PARAMETERS = 2_000_000


class Texts(Content):
    """`run/NAME`, in the run `train`."""

    def on_session_begin(self, board: Board, step: int, epoch: int) -> None:
        board.files.write_values("train", epoch, run_texts(board.train_step, board.data, board.params))


def run_texts(step: TrainStep, data: object, params: Mapping[str, Any]) -> list[Value]:
    """Texts about a run at its start: command line, versions, settings, plan and variables.

    `params` are those of a Keras callback: epochs, and steps in each.
    """
    texts = {
        "command": _code(shlex.join([sys.executable, *sys.argv])),
        "versions": _table(_versions(step)),
        "settings": _table(_settings(step, data, params)),
    }
    plan = plan_of(step)
    if plan is not None:
        texts["plan"] = _code(str(plan))
    if _parameters(step.model.variables) <= _MAX_PARAMETERS:
        texts["variables"] = _code(summary(step.model, step.variables if plan is None else plan))
    return [text_value(f"run/{name}", text) for name, text in texts.items()]


def _versions(step: TrainStep) -> dict[str, object]:
    devices = [f"{device.device_type}:{device.name.rpartition(':')[2]}" for device in _devices()]
    replicas = replicas_of(step.strategy)
    strategy = "none" if step.strategy is None else f"{type(step.strategy).__name__}, {replicas} replicas"
    return {
        **versions(),
        "platform": platform.platform(),
        "devices": ", ".join(devices),
        "strategy": strategy,
    }


def _devices() -> list[Any]:
    return [d for kind in ("GPU", "TPU", "CPU") for d in tf.config.list_logical_devices(kind)]


def _settings(step: TrainStep, data: object, params: Mapping[str, Any]) -> dict[str, object]:
    optimizer = step.inner_optimizer
    loss = getattr(step.loss, "name", None) or getattr(step.loss, "__name__", step.loss)
    settings = {
        "model": f"{type(step.model).__name__} {step.model.name!r}",
        "parameters": f"{_parameters(step.model.variables):,}, {_parameters(step.variables):,} train",
        "loss": loss,
        "optimizer": f"{type(optimizer).__name__} {optimizer.name!r}",
        "epochs": params.get("epochs"),
        "steps in an epoch": params.get("steps"),
        "clip_norm": step.clip_norm,
        "accumulate": step.accumulate,
        "on_nonfinite": step.on_nonfinite,
        "on_spike": step.on_spike,
        "keras.utils.set_random_seed": random_seed(),
    }
    if isinstance(data, Batches):
        settings |= {"examples": data.examples, "batch size": data.batch_size, "seed of the data": data.seed}
    return settings


def _parameters(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _table(rows: Mapping[str, object]) -> str:
    cells = [f"| {name} | {str(value).replace('|', ' ')} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *cells])


def _code(text: str) -> str:
    return f"```\n{text}\n```"
