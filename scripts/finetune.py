#!/usr/bin/env python3
"""Fine-tunes a network of keras.applications on photographs; by default, offline, LeNet-5 on digits.

Without options, LeNet-5 learns the digits 0 to 4, and then its frozen convolutions carry 100 examples of 5 to
9, beside a network that starts from nothing. With --data, a pretrained network gets a new head, which is
trained first, on features that are computed once; then the part that --strategy names trains, its first
layers slowest. The epoch that was best on the validation images is evaluated on the test images and saved.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import shared.command_line as cli
from shared import digits_transfer, photos
from shared.augmentation import PHOTOS
from shared.digit_images import DataError
from shared.recipe import Recipe, add_network_options, backbone, evaluate, fine_tune
from shared.tensorboard_options import add_tensorboard_options, board
from shared.trained_variables import check_unfreeze, stages, trained_variables

DIGITS = "digits"
EXAMPLES = """examples:
  finetune.py                                    LeNet-5 from the digits 0 to 4 to 5 to 9
  finetune.py --data photos/                     photos/cat/*.jpg, photos/dog/*.jpg, ...
  finetune.py --data photos/ --weights mobilenet.weights.h5 --preprocessing torch
  finetune.py --data my.npz --backbone VGG16 --from block5_conv2 --augment flip --augment shift
  finetune.py --data photos/ --strategy top --cache features/       what is frozen is computed once
  finetune.py --data photos/ --strategy all --unfreeze              one run of layers more each epoch
  finetune.py --data photos/ --unfreeze "0:head,2:block_1[56]*,4:all"
  finetune.py --data tfds:cats_vs_dogs --size 160
"""
STRATEGIES = {
    "auto": "chosen by how many images there are and --similar",
    "head": "the new head alone",
    "top": "head and last third of the layers",
    "all": "the whole network",
}
# Options that the digits have no use for.
PHOTOS_ALONE = (
    "backbone", "weights", "preprocessing", "size", "strategy", "similar", "from_layer", "unfreeze", "cache",
    "augment", "lr_lowest", "lr_highest", "head_epochs", "hidden", "dropout", "weight_decay", "ema",
    "devices", "save", "preflight", "images", "histograms", "profile",
)  # fmt: skip


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    usual = Recipe()
    parser = cli.Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("--data", default=DIGITS, metavar="digits|FOLDER|FILE.npz|tfds:NAME",
        help="what to learn (default: digits, which needs no download); a FOLDER has one sub-folder of "
        "images per class; an .npz file has x_train and y_train")
    add_network_options(parser)
    add("--strategy", type=cli.one_of(STRATEGIES), default="auto", metavar="NAME",
        help=f"{'; '.join(f'{name}: {what}' for name, what in STRATEGIES.items())} (default: auto)")
    add("--similar", type=cli.one_of(["yes", "no"]), default="yes", metavar="yes|no",
        help="for auto: whether the images are like those that the weights come from (default: yes)")
    add("--from", dest="from_layer", metavar="LAYER",
        help="train the layers from this one on, instead of a --strategy")
    add("--lr-highest", type=cli.number(float, above=0), default=usual.highest, metavar="RATE",
        help="learning rate of the head, after a warm-up and before it falls to 0 (default: "
        f"{usual.highest:g})")
    add("--lr-lowest", type=cli.number(float, above=0), metavar="RATE",
        help="rate of the first layers that train; rates between are a geometric series (default: "
        f"{usual.lowest / usual.highest:g} of the highest)")
    add("--unfreeze", type=stages, nargs="?", const="top-down", metavar="STAGES",
        help="gradually: one run of layers more each epoch, from the head down, of the whole network unless "
        "--strategy or --from say less; or EPOCH:FILTER,... of one's own, instead of both")
    add("--cache", nargs="?", const="memory", metavar="FOLDER",
        help="compute what is frozen once, in memory or into FOLDER; not with --augment")
    add("--augment", type=cli.one_of(PHOTOS), action="append", default=[], metavar="flip|shift",
        help="mirror or move the training images at random; repeat it for both (default: neither)")
    add("--epochs", type=cli.number(int, at_least=1), metavar="N",
        help=f"passes over the training images (default: {usual.epochs}; digits: {digits_transfer.EPOCHS})")
    add("--head-epochs", type=cli.number(int, at_least=0), default=usual.head_epochs, metavar="N",
        help=f"passes of the head alone before them (default: {usual.head_epochs}; 0 for none)")
    add("--batch-size", type=cli.number(int, at_least=1), default=usual.batch_size, metavar="N",
        help=f"images a step (default: {usual.batch_size})")
    add("--hidden", type=cli.number(int, at_least=1), action="append", default=[], metavar="UNITS",
        help="a dense layer in the head, before the last; repeat it for more (default: none)")
    add("--dropout", type=cli.number(float, at_least=0, below=1), default=0.2, metavar="SHARE",
        help="share of features dropped in the head (default: 0.2)")
    add("--weight-decay", type=cli.number(float, at_least=0), default=usual.weight_decay, metavar="RATE",
        help=f"decoupled weight decay of kernels (default: {usual.weight_decay:g})")
    add("--ema", type=cli.number(float, at_least=0, below=1), default=usual.ema, metavar="MOMENTUM",
        help=f"momentum of the averaged weights, which are saved (default: {usual.ema:g}; 0: no average)")
    add("--examples", type=cli.number(int, at_least=5), default=digits_transfer.EXAMPLES, metavar="N",
        help=f"digits 5 to 9 to learn from (default: {digits_transfer.EXAMPLES})")
    add("--seed", type=cli.number(int, at_least=0, below=2**31), default=0, metavar="N",
        help="of the head, order, augmentation and dropout: the same seed gives the same run on the CPU "
        "(default: 0)")
    add("--devices", default="auto", metavar="NAME",
        help="one, mirrored or mirrored:2 (GPUs), mirrored:cpu:2 (default: auto, all GPUs, else the CPU)")
    add("--preflight", action="store_true", help="first look for usual faults of network and data")
    add("--log-dir", type=Path, metavar="FOLDER",
        help="where the TensorBoard log and the curves go (default: runs/finetune-TIME)")
    add("--save", type=Path, metavar="FILE.keras",
        help="the trained model (default: model.keras in the log folder)")
    add_tensorboard_options(parser)
    args = parser.parse_args(argv)
    if args.data == DIGITS:
        given = [name for name in PHOTOS_ALONE if getattr(args, name) != parser.get_default(name)]
        if given:
            names = ", ".join(f"--{name.removesuffix('_layer').replace('_', '-')}" for name in given)
            cli.refuse(f"{names}: LeNet-5 on digits has no use for it; name other images by --data")
        return args
    if args.lr_lowest is None:
        args.lr_lowest = args.lr_highest * usual.lowest / usual.highest
    if args.lr_lowest > args.lr_highest:
        cli.refuse(f"--lr-lowest {args.lr_lowest:g} must be at most --lr-highest {args.lr_highest:g}")
    if args.cache and args.augment:
        cli.refuse("--cache keeps one version of each image, and --augment makes others: leave one out")
    if args.devices.partition(":")[0] not in ("auto", "one", "mirrored"):
        cli.refuse(f"--devices {args.devices}: this script trains on one machine; choose one or mirrored")
    if args.cache and args.strategy == "all":
        cli.refuse("--cache keeps what is frozen, and with --strategy all nothing is: leave one of both out")
    if args.from_layer and args.strategy != "auto":
        cli.refuse("--from and --strategy both say what trains: leave one of both out")
    if args.unfreeze:
        check_unfreeze(args, args.epochs or usual.epochs)
    return args


def main() -> None:
    """Fine-tunes, evaluates, saves, and prints where everything is."""
    args = parse()
    log_dir = cli.log_folder(args.log_dir, "finetune")
    if args.data == DIGITS:
        digits_transfer.run(
            args.examples, args.epochs or digits_transfer.EPOCHS, args.batch_size, args.seed, log_dir
        )
    else:
        on_photos(args, log_dir)


def on_photos(args: argparse.Namespace, log_dir: Path) -> None:
    """Fine-tunes a network of keras.applications."""
    model_file = cli.keras_file(args.save, log_dir / "model.keras")
    if not args.data.startswith("tfds:") and not Path(args.data).expanduser().exists():
        cli.refuse(f"--data {args.data}: no such file or folder (--help says what it takes)")
    if args.cache and args.cache != "memory":
        cli.check_writable("--cache", Path(args.cache))
    with cli.quiet_import():
        import keras

        from gradloop import loops, models, optim

        from shared import augmentation, model_card, plots

    with cli.refusing(ValueError, TimeoutError, option="--devices", parameter="spec"):
        strategy = loops.strategy(args.devices)
    keras.utils.set_random_seed(args.seed)
    problems = (ValueError, OSError, loops.NonFiniteError, optim.SelectionError)
    with strategy.scope(), cli.refusing(*problems):
        network = backbone(args)
        # Names are the same with any head, and reading the images may take minutes.
        trained_variables(args, models.classifier(network, 2, hidden=args.hidden), images=None)
    with cli.refusing(DataError):
        data = photos.load(args.data, args.size)
    count = len(data.train[1])
    print(f"Data      {data.name}: {count:,} images to train on, {len(data.validation[1]):,} to choose by, "
          f"{len(data.test[1]):,} to test on, {len(data.class_names)} classes", flush=True)
    recipe = Recipe(
        epochs=args.epochs or Recipe.epochs, head_epochs=args.head_epochs, batch_size=args.batch_size,
        highest=args.lr_highest, lowest=args.lr_lowest, weight_decay=args.weight_decay, ema=args.ema,
        unfreeze=args.unfreeze, seed=args.seed,
    )
    keras.utils.set_random_seed(args.seed)  # whatever was drawn on the way
    with strategy.scope(), cli.refusing(*problems):
        model = models.classifier(network, len(data.class_names), hidden=args.hidden, dropout=args.dropout)
        trained, why = trained_variables(args, model, count)
        print(f"Strategy  {why}")
        log_dir.mkdir(parents=True, exist_ok=True)
        history = fine_tune(
            model, trained, data.train, data.validation, recipe,
            transform=augmentation.photos(args.augment, args.size), cache=args.cache,
            best=log_dir / "best.weights.h5",
            callbacks=[loops.ProgressBar(), board(args, log_dir)], log=print, preflight=args.preflight,
        )
        result = evaluate(model, data.test)
    model_file.parent.mkdir(parents=True, exist_ok=True)
    model.save(model_file)
    model_card.write(model_file, data.class_names, 255)
    watched = history.get("val_accuracy")  # None when it was stopped within the first epoch
    best = ""
    if watched:
        best = f"; validation {max(watched):.2%} in epoch {watched.index(max(watched)) + 1}, the best"
    print(f"\nTest accuracy {result['accuracy']:.2%} (loss {result['loss']:.4f}) on {len(data.test[1]):,} "
          f"images that chose nothing{best}\n")
    print(f"TensorBoard  {cli.tensorboard(log_dir)}")
    title = f"{args.backbone} on {data.name}: {result['accuracy']:.2%} right"
    if watched:
        plots.save(log_dir / "curves.png", lambda picture: plots.draw(history, picture, title, "validation"))
    program = f"{cli.shown(Path(sys.executable))} {cli.shown(Path(__file__).with_name('predict.py'))}"
    print(f"Predict      {program} {cli.below_here(model_file)} IMAGE...")


if __name__ == "__main__":
    main()
