"""Checkpoints that cannot be read: damaged ones, and those of a newer version."""

from __future__ import annotations

import re

from .metadata import FORMAT


class DamagedError(ValueError):
    """A checkpoint's files are not what was written.

    Args:
        checkpoint: its folder.
        reason: names the file.
    """

    def __init__(self, checkpoint: str, reason: str) -> None:
        super().__init__(checkpoint, reason)
        self.checkpoint, self.reason = checkpoint, reason

    def __str__(self) -> str:
        return (
            f"The checkpoint {self.checkpoint!r} is damaged: {self.reason}. Delete its folder to go on from "
            "the one before it."
        )


def reason_of(error: Exception) -> str:
    """What an OSError or one of TensorFlow's says, without the operation that said it."""
    text = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
    return re.sub(r"^\{\{.*?\}\} | \[Op:\w+\] *$", "", text)


def not_written(error: Exception, before: str | None) -> OSError:
    """The error of a checkpoint that cannot be written, with the newest that is there as a whole."""
    reason = f"{error}" if isinstance(error, OSError) else f"No checkpoint can be written: {error!r}."
    return OSError(f"{reason} {f'{before!r} before it is whole.' if before else 'There is none before it.'}")


def newer_format(checkpoint: str, found: object) -> ValueError:
    """The error of a checkpoint whose format this version does not know."""
    return ValueError(
        f"The checkpoint {checkpoint!r} has the format {found!r}, of a newer version of gradloop; this one "
        f"reads formats up to {FORMAT}: use that version, or name another folder."
    )
