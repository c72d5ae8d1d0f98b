"""Tables on screen."""

from __future__ import annotations

from collections.abc import Sequence


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
