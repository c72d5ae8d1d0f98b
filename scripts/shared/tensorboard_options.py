"""What a program writes for TensorBoard: what costs little always, the rest by options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .command_line import number

if TYPE_CHECKING:
    from gradloop import loops


def _steps(text: str) -> tuple[int, int]:
    """An argparse type: the numbers of a first and a last step."""
    numbers = text.split(",")
    if len(numbers) == 2 and all(one.strip().isdigit() for one in numbers):
        first, last = map(int, numbers)
        if 1 <= first <= last:
            return first, last
    raise argparse.ArgumentTypeError(f"wanted FIRST,LAST, two numbers of steps from 1, got {text}")


def add_tensorboard_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `board` reads, for what takes time or room."""
    add = parser.add_argument
    add("--images", type=number(int, at_least=0), default=0, metavar="N",
        help="for TensorBoard: so many images, with what they are and what they are taken for (default: 0)")
    add("--histograms", metavar="FILTER",
        help="for TensorBoard: histograms of the weights whose name contains FILTER, a glob where it has * "
        "or ?, and of their gradients (default: none)")
    add("--profile", type=_steps, metavar="FIRST,LAST",
        help="for TensorBoard: profile these steps, counted from 1 (default: none)")


def board(args: argparse.Namespace, log_dir: Path) -> loops.TensorBoard:
    """Writes a run, with its options for hyperparameters, folders aside."""
    from gradloop import loops

    hparams = {
        name: " ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in vars(args).items()
        if isinstance(value, (int, float, str, list)) and value != []
    }
    return loops.TensorBoard(
        str(log_dir), images=args.images, histograms=args.histograms, profile=args.profile, hparams=hparams
    )
