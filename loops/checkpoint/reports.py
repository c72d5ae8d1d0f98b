"""Checkpoints as text: a table of those in a folder, and what differs between two."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from ...optim.common.tables import align_columns
from ...optim.common.types import Array
from .directory import CheckpointFolder
from .errors import DamagedError
from .manifest import Manifest, check_sizes
from .summaries import summary_of
from .whole import read_whole

_HEAD = ("checkpoint", "step", "epoch", "date (UTC)", "size", "state", "metrics")


def table(folder: str, *, verify: bool) -> tuple[list[str], list[str]]:
    """Lines of a table of the checkpoints in a folder, and of what is wrong with some of them.

    Args:
        folder: path.
        verify: whether to read them, and compare all digests, or to look at sizes alone.
    """
    place = CheckpointFolder(folder)
    rows: list[Sequence[str]] = [_HEAD]
    faults, complete = [], place.complete()
    for number in place.numbers():
        path = place.checkpoint(number)
        about, state = None, "unfinished"
        if number in complete:
            state = "whole"
            try:
                about = summary_of(path)
                check_sizes(path, about)
                if verify:
                    read_whole(path, digests=True)
            except DamagedError as error:
                state = "damaged"
                faults.append(f"{os.path.basename(path)} is damaged: {error.reason}")
            except ValueError as error:  # of a newer version
                state = "unknown"
                faults.append(str(error))
        rows.append((os.path.basename(path), *_cells(about, state)))
    return align_columns(rows, right=(1, 2, 4)), faults


def _cells(about: Manifest | None, state: str) -> tuple[str, ...]:
    if about is None:
        return "", "", "", "", state, ""
    counts = ["" if count is None else str(count) for count in (about["step"], about["epoch"])]
    size = sum(content["bytes"] for content in about["files"].values())
    metrics = " ".join(f"{name}={value:.6g}" for name, value in about["metrics"].items())
    return *counts, about["date"][:19].replace("T", " "), _size(size), state, metrics


def _size(count: float) -> str:
    power = min(int(math.log10(max(count, 1))) // 3, 3)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"


def differences(one: str, other: str) -> list[str]:
    """Lines that say in which names, shapes and values two checkpoints differ, the largest change first.

    ValueError if one of them is damaged, or of a newer version.
    """
    a, b = ({n: np.asarray(v) for n, v in read_whole(path).values.items()} for path in (one, other))
    lines = []
    for here, there, where in ((a, b, one), (b, a, other)):
        lines += [f"only in {where}: {name} {here[name].shape}" for name in here if name not in there]
    both = sorted(a.keys() & b.keys())
    lines += [f"{n}: {_kind(a[n])} and {_kind(b[n])}" for n in both if _kind(a[n]) != _kind(b[n])]
    changes = _changes(a, b)
    rows = [(name, str(a[name].shape), text) for name, (_, text) in changes.items()]
    if rows:
        lines += align_columns([("name", "shape", "largest change"), *rows], right=(2,))
    same = len(both) - len(changes) - sum(_kind(a[name]) != _kind(b[name]) for name in both)
    return [*lines, f"{same} of {len(a.keys() | b.keys())} values are the same."]


def _changes(a: Mapping[str, Array], b: Mapping[str, Array]) -> dict[str, tuple[float, str]]:
    """For each value that differs the largest absolute change, and its text; the largest first."""
    found = {}
    for name in sorted(a.keys() & b.keys()):
        one, other = a[name], b[name]
        if _kind(one) != _kind(other) or one.tobytes() == other.tobytes():
            continue
        if one.dtype.kind in "OSU":
            found[name] = (float("inf"), "another text")
            continue
        with np.errstate(invalid="ignore"):  # of infinities
            change = float(np.max(np.abs(one.astype("float64") - other.astype("float64"))))
        found[name] = (change, f"{change:.3g}")
    return dict(sorted(found.items(), key=lambda item: -np.nan_to_num(item[1][0], nan=np.inf)))


def _kind(value: Array) -> str:
    return f"{tf.as_dtype(value.dtype).name} {value.shape}"
