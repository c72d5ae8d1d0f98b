#!/usr/bin/env python3
"""Compares ways to fine-tune a network: the head alone, one rate for all layers, a rate for each run of
layers, gradual unfreezing, and the last two together; each several times, as a table, CSV and a picture.

All ways start from the same weights and a head that was trained first. Order, augmentation, epochs, warm-up,
averaged weights and the choice of the epoch, by the validation images, are the same for all. The test images
are looked at once a run, by that epoch's weights, and choose nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import shared.command_line as cli
from shared import photos, plots
from shared.digit_images import DataError
from shared.recipe import Recipe, add_network_options, backbone, evaluate, fine_tune
from shared.tables import deviation, table, write_csv

# For each way: what trains, whether rates differ, whether it unfreezes gradually.
WAYS = {
    "head": ("head", False, False),
    "uniform": ("*", False, False),
    "layer-wise": ("*", True, False),
    "unfreezing": ("*", False, True),
    "both": ("*", True, True),
}
EXAMPLES = """examples:
  compare_finetuning.py --data photos/
  compare_finetuning.py --data my.npz --weights mobilenet.weights.h5 --preprocessing torch --seeds 3
  compare_finetuning.py --data my.npz --ways uniform both --lr-highest 1e-3 --lr-lowest 1e-5
"""


@dataclasses.dataclass(frozen=True)
class Result:
    """One run: accuracies as shares, of the weights of the best epoch, counted from 1."""

    way: str
    seed: int
    validation: float
    test: float
    best_epoch: int
    seconds: float


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    usual = Recipe()
    parser = cli.Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("--data", required=True, metavar="FOLDER|FILE.npz|tfds:NAME",
        help="images, as finetune.py takes them")
    add_network_options(parser)
    add("--ways", type=cli.one_of(WAYS), nargs="+", default=list(WAYS), metavar="NAME",
        help=f"which of {', '.join(WAYS)} (default: all)")
    add("--seeds", type=cli.number(int, at_least=1), default=5, metavar="N",
        help="runs of each way, with the seeds 0, 1, ... (default: 5)")
    add("--lr-highest", type=cli.number(float, above=0), default=usual.highest, metavar="RATE",
        help=f"the one rate, and that of the head where they differ (default: {usual.highest:g})")
    add("--lr-lowest", type=cli.number(float, above=0), default=usual.lowest, metavar="RATE",
        help=f"where rates differ, that of the first layers (default: {usual.lowest:g})")
    add("--epochs", type=cli.number(int, at_least=1), default=usual.epochs, metavar="N",
        help=f"passes over the training images (default: {usual.epochs})")
    add("--batch-size", type=cli.number(int, at_least=1), default=usual.batch_size, metavar="N",
        help=f"images a step (default: {usual.batch_size})")
    add("--csv", type=Path, metavar="FILE", help="the figures (default: finetuning.csv in the log folder)")
    add("--picture", type=Path, metavar="FILE.png",
        help="the picture (default: finetuning.png in the log folder)")
    add("--log-dir", type=Path, metavar="FOLDER",
        help="where the TensorBoard logs go (default: runs/finetuning-TIME)")
    args = parser.parse_args(argv)
    args.ways = list(dict.fromkeys(args.ways))
    return args


def run(way: str, seed: int, data: photos.Photos, args: argparse.Namespace, log_dir: Path) -> Result:
    """One run of one way."""
    import keras

    from gradloop import loops, models, optim

    from shared import augmentation

    started = time.perf_counter()
    where, differ, unfreezes = WAYS[way]
    recipe = Recipe(
        epochs=args.epochs, batch_size=args.batch_size, seed=seed, highest=args.lr_highest,
        lowest=args.lr_lowest if differ else args.lr_highest, unfreeze="top-down" if unfreezes else None,
    )
    keras.utils.set_random_seed(seed)
    keras.backend.clear_session()
    model = models.classifier(backbone(args), len(data.class_names), dropout=0.2)
    best = log_dir / f"{way}-{seed}" / "best.weights.h5"
    history = fine_tune(
        model, optim.select(model, where), data.train, data.validation, recipe,
        transform=augmentation.photos(augmentation.PHOTOS, args.size), best=best,
        callbacks=[loops.TensorBoard(str(best.parent), hparams={"way": way, "seed": seed})],
    )
    accuracy = evaluate(model, data.test)["accuracy"]
    epoch = int(np.argmax(history["val_accuracy"]))
    seconds = time.perf_counter() - started
    return Result(way, seed, history["val_accuracy"][epoch], accuracy, epoch + 1, round(seconds, 1))


def summary(results: Sequence[Result]) -> str:
    """The table on screen: mean and standard deviation of each way."""
    rows = []
    for way in dict.fromkeys(result.way for result in results):
        runs = [result for result in results if result.way == way]
        cells = [way, str(len(runs))]
        for values in ([one.validation for one in runs], [one.test for one in runs]):
            cells += [f"{np.mean(values):.2%}", deviation(values)]
        rows.append([*cells, f"{np.mean([one.seconds for one in runs]):.0f}"])
    return table(["way", "runs", "validation", "deviation", "test", "deviation", "seconds"], rows)


def main() -> None:
    """Runs all ways, and prints where the figures are."""
    args = parse()
    log_dir = cli.log_folder(args.log_dir, "finetuning")
    figures, picture = args.csv or log_dir / "finetuning.csv", args.picture or log_dir / "finetuning.png"
    cli.check_writable("--csv", figures.parent)
    cli.check_writable("--picture", picture.parent)
    with cli.quiet_import():
        from gradloop import loops, optim
    with cli.refusing(DataError):
        data = photos.load(args.data, args.size)
    train, validation, test = (f"{len(part[1]):,}" for part in (data.train, data.validation, data.test))
    print(f"Data      {data.name}: {train} images to train on, {validation} to choose by, {test} to test on")
    print(f"Plan      {', '.join(args.ways)}; rate {args.lr_highest:g}, from {args.lr_lowest:g} where rates "
          f"differ; {args.epochs} epochs, {args.batch_size} images a step; {args.seeds} runs each",
          flush=True)
    for folder in (log_dir, figures.parent, picture.parent):
        folder.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for seed, way in itertools.product(range(args.seeds), args.ways):
        with cli.refusing(ValueError, OSError, optim.SelectionError, loops.NonFiniteError):
            results.append(run(way, seed, data, args, log_dir))
        last = results[-1]
        print(f"{way:11s} seed {seed}: validation {last.validation:.2%} in epoch {last.best_epoch}, "
              f"test {last.test:.2%}, {last.seconds:.0f} s", flush=True)
        write_csv(results, figures, ("validation", "test"))
    print(f"\n{summary(results)}\n\nFigures      {cli.shown(figures)}")
    print(f"TensorBoard  {cli.tensorboard(log_dir)}")
    title = f"{args.backbone} on {data.name}: test accuracy (%), runs and mean"
    by_way = {way: [one.test for one in results if one.way == way] for way in args.ways}
    plots.save(picture, lambda path: plots.dots(by_way, path, title))


if __name__ == "__main__":
    main()
