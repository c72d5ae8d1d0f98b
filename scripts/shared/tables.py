"""Tables of results, on screen and in files."""

from __future__ import annotations

import csv
import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right, a last "note" to the left.

    `gradloop.optim` has a writer of its own for its plans: the benchmark prints in a process that imports no
    TensorFlow, and perhaps could not.

    Example:
        >>> print(table(["who", "x"], [["a", "1.00"], ["bcd", "12.50"]]))
        who      x
        a     1.00
        bcd  12.50
    """
    left = [index for index, name in enumerate(head) if index == 0 or name == "note"]
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in [head, *rows]
    )


def deviation(shares: Sequence[float]) -> str:
    """The standard deviation of several runs' shares, in percent."""
    return f"{statistics.stdev(shares):.2%}" if len(shares) > 1 else "-"


def write_csv(results: Sequence[DataclassInstance], path: Path, shares: Sequence[str]) -> None:
    """Writes a row for each result, those of the fields that are shares with four digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(results[0])])
        writer.writeheader()
        for row in map(dataclasses.asdict, results):
            writer.writerow(row | {name: f"{row[name]:.4f}" for name in shares})
