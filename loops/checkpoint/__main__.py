"""Shows what is in a folder of checkpoints: `python -m gradloop.loops.checkpoint FOLDER`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import tensorflow as tf

from .directory import CheckpointFolder
from .manifest import has_manifest
from .paths import state_in
from .reports import differences, table
from .tensor_file import is_written


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 1 if `--verify` found damage."""
    parser = argparse.ArgumentParser(
        prog="python -m gradloop.loops.checkpoint",
        description="Lists the checkpoints in a folder: step, epoch, date, size, metrics, and whether they "
        "are whole by the sizes of their files.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="the folder that `loops.Checkpoint` was given")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all files and compare their SHA-256; the exit status is 1 if one is damaged",
    )
    parser.add_argument(
        "--diff",
        nargs=2,
        metavar=("A", "B"),
        help="tell which names, shapes and values differ between two checkpoints: their numbers, or paths",
    )
    args = parser.parse_args(arguments)
    folder = args.folder
    if not tf.io.gfile.isdir(folder):
        parser.error(f"FOLDER: there is no folder {folder!r}")
    if is_written(state_in(folder)):
        parser.error(f"FOLDER: {folder!r} is one checkpoint: name the folder that it is in")
    if not CheckpointFolder(folder).numbers():
        parser.error(f"FOLDER: {folder!r} holds no checkpoints")
    if args.diff:
        try:
            _print(differences(*(_found(parser, folder, name) for name in args.diff)))
        except ValueError as error:
            parser.error(str(error))
        return 0
    lines, faults = table(folder, verify=args.verify)
    _print([*lines, *faults])
    return int(args.verify and bool(faults))


def _print(lines: Sequence[str]) -> None:
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:  # `| head` has seen enough; what is left would fail again as Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _found(parser: argparse.ArgumentParser, folder: str, name: str) -> str:
    """The path of a checkpoint by its number, its name in the folder, or its path."""
    for path in (os.path.join(folder, f"checkpoint-{name}"), os.path.join(folder, name), name):
        if is_written(state_in(path)) or has_manifest(path):  # the latter damaged, as is told then
            return path
    parser.error(f"--diff: there is no checkpoint {name!r}, neither in {folder!r} nor by that path")


if __name__ == "__main__":
    raise SystemExit(main())
