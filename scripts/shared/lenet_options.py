"""The options that the programs which train LeNet-5 have in common, and their optimizers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command_line import number, one_of

if TYPE_CHECKING:
    import keras

# Keras class, its options, and a learning rate that suits LeNet-5 at the default batch size.
OPTIMIZERS: dict[str, tuple[str, dict[str, object], float]] = {
    "sgd": ("SGD", {}, 0.1),
    "momentum": ("SGD", {"momentum": 0.9}, 0.03),
    "nag": ("SGD", {"momentum": 0.9, "nesterov": True}, 0.03),
    "adagrad": ("Adagrad", {}, 0.03),
    "adadelta": ("Adadelta", {}, 1.0),
    "rmsprop": ("RMSprop", {}, 1e-3),
    "adam": ("Adam", {}, 2e-3),
    "adamw": ("AdamW", {}, 2e-3),
    "nadam": ("Nadam", {}, 2e-3),
    "adamax": ("Adamax", {}, 4e-3),
    "lion": ("Lion", {}, 3e-4),
}


def usual_rate(name: str) -> float:
    """The learning rate of one of `OPTIMIZERS` where none is given."""
    return OPTIMIZERS[name][2]


def make_optimizer(
    name: str, rate: float | keras.optimizers.schedules.LearningRateSchedule, **more: Any
) -> keras.optimizers.Optimizer:
    """One of `OPTIMIZERS`, with more options of its class."""
    import keras

    class_name, options, _ = OPTIMIZERS[name]
    return getattr(keras.optimizers, class_name)(rate, **options, **more)


def add_lenet_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds those of these options that a program names."""

    def add(name: str, **settings: Any) -> None:  # of `add_argument`, of many types
        if name in names:
            parser.add_argument(name, **settings)

    add("--data", default="digits", metavar="digits|mnist|FILE.npz|FOLDER",
        help="what to learn (default: digits, which needs no download); a FOLDER has one sub-folder of "
        "images per class")
    add("--train-only", action="append", metavar="FILTER",
        help="train the variables whose name contains FILTER (a glob where it has * or ?) and freeze the "
        "rest; repeat it for more; the plan that train_lenet.py prints lists the names (default: all)")
    add("--optimizer", type=one_of(OPTIMIZERS), default="adam", metavar="NAME",
        help=f"{', '.join(OPTIMIZERS)} (default: adam)")
    add("--batch-size", type=number(int, at_least=1), default=64, metavar="N",
        help="images a step (default: 64)")
    add("--epochs", type=number(int, at_least=1), default=15, metavar="N",
        help="passes over the training images (default: 15)")
    add("--dropout", type=number(float, at_least=0, below=1), default=0.1, metavar="SHARE",
        help="share of units dropped after each hidden dense layer (default: 0.1)")
    add("--shift", type=number(int, at_least=0, below=28), default=2, metavar="PIXELS",
        help="move each training image at random, up to so many pixels each way (default: 2)")
    add("--seed", type=number(int, at_least=0, below=2**31), default=0, metavar="N",
        help="of weights, order and dropout: the same seed gives the same run (default: 0)")
    add("--log-dir", type=Path, metavar="FOLDER",
        help="where the TensorBoard log and the picture go (default: a new folder in runs/)")
