"""What the scripts' command lines share: one-line errors, checked values, writable folders.

Nothing here imports TensorFlow, so that ``--help`` and refused options answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn


def complain(message: object) -> None:
    """Prints one line, ``error: ...``, on standard error."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)


def refuse(message: object) -> NoReturn:
    """Ends the program with such a line and exit status 2."""
    complain(message)
    raise SystemExit(2)


@contextlib.contextmanager
def refusing(*errors: type[Exception], option: str = "", parameter: str = "") -> Iterator[None]:
    """Turns the given errors of the block, whose messages are meant for users, into `refuse`.

    The option that is to blame is named in front of the message, and in place of the function's `parameter`
    by which the message calls its value.
    """
    try:
        yield
    except errors as error:
        message = str(error)
        if parameter:
            message = message.removeprefix(f"`{parameter}` ").replace(f"`{parameter}`", option)
        refuse(f"{option}: {message}" if option else message)


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line and whose help keeps its line breaks."""

    def __init__(self, description: str, epilog: str) -> None:
        super().__init__(
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        refuse(f"{message} (--help lists the options)")


def number(
    kind: type[int] | type[float],
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> Callable[[str], float]:
    """An argparse type: a finite number within bounds; an int is wanted where ``kind`` is int."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < at_least or not above < value < below:
            wanted = "a whole number" if kind is int else "a number"
            limits = {"at least": at_least, "above": above, "below": below}
            bounds = [f"{words} {bound:g}" for words, bound in limits.items() if math.isfinite(bound)]
            raise argparse.ArgumentTypeError(f"wanted {wanted} {' and '.join(bounds)}, got {text}")
        return value

    return parse


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """An argparse type: one of ``names``, in any case; the closest is suggested for another."""
    known = list(names)

    def parse(text: str) -> str:
        if text.lower() in known:
            return text.lower()
        near = difflib.get_close_matches(text.lower(), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise argparse.ArgumentTypeError(f"{text} is unknown; {hint}choose from {', '.join(known)}")

    return parse


def assignment(
    names: Iterable[str], value: Callable[[str], float]
) -> Callable[[str], tuple[str, float]]:
    """An argparse type: NAME=VALUE with one of ``names`` and what ``value``, a type too, takes."""
    name_of = one_of(names)

    def parse(text: str) -> tuple[str, float]:
        name, equals, number_text = text.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"wanted NAME=NUMBER, got {text}")
        return name_of(name), value(number_text)

    return parse


def check_writable(option: str, folder: Path) -> None:
    """Proves that files can be written in ``folder``, or refuses; leaves nothing behind."""
    try:
        new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
        for parent in new:
            parent.rmdir()
    except OSError as error:
        refuse(f"{option}: cannot write to {folder} ({error.strerror}); give another folder")


def log_folder(given: Path | None, name: str) -> Path:
    """The folder of `--log-dir`, else a new one in runs/, by the name of the program and the time."""
    folder = given or Path("runs") / time.strftime(f"{name}-%Y%m%d-%H%M%S")
    check_writable("--log-dir", folder)
    return folder


def keras_file(given: Path | None, usual: Path) -> Path:
    """The file of `--save`, else the usual one; or refuses."""
    file = given or usual
    if file.suffix != ".keras" or file.is_dir():
        refuse(f"--save: wanted the name of a .keras file, got {file}")
    check_writable("--save", file.parent)
    return file


def tensorboard(log_dir: Path) -> str:
    """The command that shows a log."""
    return f"{shown(Path(sys.executable).with_name('tensorboard'))} --logdir {shown(log_dir)}"


def below_here(path: Path) -> Path:
    """A path relative to the working folder where it lies below it, else absolute."""
    path = Path(os.path.abspath(path))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def shown(path: Path) -> str:
    """A path to copy into a shell."""
    return shlex.quote(str(below_here(path)))


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Hides what TensorFlow's C++ side prints on import, unless TF_CPP_MIN_LOG_LEVEL is set.

    It announces CPU features and missing GPUs before any logging level applies, so the file descriptor itself
    is turned away. Python's exceptions are not affected.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
