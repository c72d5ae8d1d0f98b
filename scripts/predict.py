#!/usr/bin/env python3
"""Names what is on pictures, with a classifier that train_lenet.py, finetune.py or Keras has saved.

One line a file: its name, then the likeliest classes. The names of the classes and the range of pixels come
from the card beside the model, MODEL.json, which the training scripts write; --classes and --highest
replace it. Pictures are squeezed to the size that the model reads, transparency becomes white. Files that
cannot be read are named on stderr and skipped, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared import image_files, model_card, saved_classifier
from shared.array_files import DataError
from shared.command_line import Parser, check_writable, complain, number, quiet_import, refuse, refusing

EXAMPLES = """examples:
  predict.py cats.keras holiday/                 every image file in the folder, not in folders below
  predict.py cats.keras a.jpg b.png --top 1 --grid answers.png
  predict.py lenet5.keras --invert scan.png      dark ink on paper, where LeNet-5 learned white on black
  predict.py other.h5 --classes cat,dog --highest 1 a.jpg
"""
IN_GRID = 60  # pictures; more would be too small to see


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a value that cannot work is refused here."""
    parser = Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL",
        help="a .keras or .h5 file: a whole model with one input of images and one output a class")
    add("images", type=Path, nargs="+", metavar="IMAGE",
        help=f"a file ({', '.join(image_files.FORMATS)}), or a folder of them")
    add("--top", type=number(int, at_least=1), default=3, metavar="N",
        help="how many classes to name for each, the likeliest first (default: up to 3)")
    add("--classes", type=class_names, metavar="A,B,C",
        help="names of the outputs, in order (default: those of the card, else 0, 1, 2, ...)")
    add("--highest", type=number(float, above=0), metavar="VALUE",
        help="pixel value of white that the model expects, 0 being black: 255 for a model that holds its "
        "preprocessing, 1 for LeNet-5 (default: that of the card, else 255)")
    add("--invert", action="store_true",
        help="swap black and white first: LeNet-5 learned white digits on black, photographs of ink on "
        "paper are the other way round")
    add("--size", type=number(int, at_least=1), metavar="N",
        help="height and width to give to a model that takes any; refused for others")
    add("--batch-size", type=number(int, at_least=1), default=32, metavar="N",
        help="pictures at once: more is faster and takes more memory (default: 32)")
    add("--grid", type=Path, metavar="FILE.png",
        help=f"draw the pictures as the model sees them, the first {IN_GRID}, with the answer under each")
    return parser.parse_args(argv)


def class_names(text: str) -> tuple[str, ...]:
    """An argparse type: two or more different names with commas between."""
    names = tuple(name.strip() for name in text.split(","))
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"wanted two or more different names, as in cat,dog, got {text}")
    return names


def main() -> None:
    """Predicts, prints, draws; exits with 1 where some files could not be read, with 2 where all."""
    args = parse()
    with refusing(DataError):
        saved_classifier.check_file(args.model)
        image_files.pillow()
        card = None if args.classes and args.highest else model_card.read(args.model)
    if args.grid:
        check_grid(args.grid)
    files, failed = image_list(args.images)
    with refusing(DataError), quiet_import():
        network = saved_classifier.load(args.model, args.size, min(args.batch_size, len(files)))
    names = args.classes or (card.class_names if card else tuple(map(str, range(network.classes))))
    white = args.highest or (card.highest if card else 255.0)
    if len(names) != network.classes:
        source = "--classes" if args.classes else model_card.path_of(args.model)
        refuse(f"{source}: has {len(names)} names, but {args.model} has {network.classes} outputs; "
               "name them all with --classes")
    if card is None and not (args.classes and args.highest):
        note(f"no {model_card.path_of(args.model)} beside the model: white is {white:g} (--highest), the "
             f"classes are {', '.join(names[:3])}{', ...' if len(names) > 3 else ''} (--classes)")

    read: list[Path] = []
    outputs, seen = [], []
    for chosen, pixels in batches(files, network.shape, args.invert):
        values = (pixels / np.float32(255 / white)).astype(network.dtype)
        outputs.append(np.asarray(network.call(values), np.float32)[: len(chosen)])
        if args.grid:
            seen += list(pixels[: max(0, min(len(chosen), IN_GRID - len(read)))])
        read += chosen
    if not read:
        refuse(f"none of the files could be read: {len(files) + failed} tried")
    shares = probabilities(np.concatenate(outputs))
    if args.grid:
        draw(args.grid, read, seen, shares, names)
    show(read, shares, names, args.top)
    if failed or len(read) < len(files):
        raise SystemExit(1)


def note(text: str) -> None:
    """Something to know that is no answer, beside the answers."""
    print("note:", text, file=sys.stderr)


def check_grid(path: Path) -> None:
    """Refuses a picture that could not be drawn or written."""
    if path.suffix.lower() != ".png" or path.is_dir():
        refuse(f"--grid: wanted the name of a .png file, got {path}")
    if importlib.util.find_spec("matplotlib") is None:
        refuse('--grid: matplotlib is missing: pip install "gradloop[data]"')
    check_writable("--grid", path.parent)


def image_list(given: Sequence[Path]) -> tuple[list[Path], int]:
    """The files meant, those of folders in order, and how many of ``given`` had to be left out."""
    files: list[Path] = []
    failed = 0
    for path in given:
        try:
            found = image_files.image_paths(path) if path.is_dir() else [path] * path.exists()
            if not found:
                suffixes = ", ".join(image_files.SUFFIXES)
                raise DataError(
                    f"{path}: has no images; wanted files of {suffixes}" if path.is_dir()
                    else f"{path}: no such file or folder; check the name"
                )
            files += found
        except DataError as error:
            complain(error)
            failed += 1
    if not files:
        refuse("no image to predict; name files, or a folder of them")
    return files, failed


def batches(
    files: Sequence[Path], shape: tuple[int, int, int, int], invert: bool
) -> Iterator[tuple[list[Path], NDArray[np.uint8]]]:
    """The files that can be read, with their pixels; the last batch is filled up with black."""
    pixels = np.zeros(shape, np.uint8)
    chosen: list[Path] = []
    for file in files:
        try:
            picture = image_files.read(file, *shape[1:])
        except DataError as error:
            complain(error)
            continue
        pixels[len(chosen)] = 255 - picture if invert else picture
        chosen.append(file)
        if len(chosen) == len(pixels):
            yield chosen, pixels
            pixels, chosen = np.zeros(shape, np.uint8), []
    if chosen:
        yield chosen, pixels


def probabilities(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The outputs where each row sums to 1, else their softmax, and then it says so."""
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=0.01):
        return outputs
    if not np.isfinite(outputs).all():
        refuse("the model answers with NaN or infinite numbers; check --highest, or train it anew")
    note("the outputs do not sum to 1, so they are taken for logits and shown after softmax")
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def show(files: Sequence[Path], shares: NDArray[np.float32], names: Sequence[str], top: int) -> None:
    """Prints a line a file, in columns."""
    best = np.argsort(-shares, axis=1, kind="stable")[:, :top]
    left = max(len(str(file)) for file in files)
    wide = max(len(names[label]) for label in np.unique(best))
    encoding = sys.stdout.encoding or "utf-8"
    for file, row, labels in zip(files, shares, best, strict=True):
        answers = (f"{names[label]:<{wide}} {100 * row[label]:5.1f}%" for label in labels)
        line = f"{str(file):<{left}}  {'   '.join(answers)}"
        # A file's name may hold bytes that are no text.
        print(line.encode(encoding, "backslashreplace").decode(encoding))


def draw(
    path: Path,
    files: Sequence[Path],
    pictures: Sequence[NDArray[np.uint8]],
    shares: NDArray[np.float32],
    names: Sequence[str],
) -> None:
    """Writes a PNG of the pictures, the answer under each."""
    # The figure alone, without pyplot: no window system, no global state.
    from matplotlib.figure import Figure

    columns = min(len(pictures), max(4, math.ceil(math.sqrt(1.5 * len(pictures)))))
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(1.7 * columns, 2.25 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, file, picture, row in zip(grid, files, pictures, shares):
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#e4e7eb")
        small = max(picture.shape) < 64
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if small else None)
        label = int(row.argmax())
        name = os.fsencode(file.name).decode(errors="replace")
        # No mathematics between dollar signs in names.
        axes.set_title(shortened(name), fontsize=7, color="#7b8794", parse_math=False)
        axes.set_xlabel(f"{shortened(names[label])}\n{row[label]:.1%}", fontsize=9, parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks are drawn as boxes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def shortened(text: str) -> str:
    """Text that fits above or below a small picture."""
    return text if len(text) <= 20 else f"{text[:19]}…"


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    main()
