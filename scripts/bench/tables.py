"""The tables on screen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .case import Case
from .figures import Result, Verdict, to_base

BUSY_SHARE = 0.05
LEARNED_AFTER_STEPS = 300


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right, a last "note" to the left.

    Example:
        >>> print(table(["who", "x"], [["a", "1.00"], ["bcd", "12.50"]]))
        who      x
        a     1.00
        bcd  12.50
    """
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if i == 0 or head[i] == "note" else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def results_table(case: Case, results: Sequence[Result]) -> str:
    """All contenders of one case.

    Args:
        case: what was measured.
        results: one per contender.

    Returns:
        A title line and the table.
    """
    ratios = to_base(results)
    rows = [
        [
            result.name,
            f"{result.median_us:.0f}",
            f"{min(result.us_per_step):.0f}..{max(result.us_per_step):.0f}",
            f"{ratios[result.name]:.2f}x" if result.name in ratios else "-",
            f"{result.first_step_s:.2f}",
            f"{result.peak_mb:.0f}",
            f"{result.loss:.3f}",
            ", ".join(filter(None, [result.note, *warnings(result)])),
        ]
        for result in results
    ]
    rounds = len(results[0].us_per_step) if results else 0
    head = ["contender", "us/step", "min..max", "time", "1st step s", "peak MB", "loss", "note"]
    title = f"{case.title} ({rounds} rounds, blocks of {case.steps} steps)"
    return f"{title}\n{table(head, rows)}"


def warnings(result: Result) -> list[str]:
    """What makes a result doubtful: others at work during its turns, or a loss of mere guessing."""
    found = []
    if result.idle_cpu_s > BUSY_SHARE * result.turn_s:
        share = result.idle_cpu_s / result.turn_s
        found.append(f"waiting workers used {share:.0%} of a core")
    trained = result.steps * len(result.us_per_step)
    if not math.isfinite(result.loss) or (
        trained >= LEARNED_AFTER_STEPS and result.loss > math.log(10)
    ):
        found.append("DID NOT LEARN")
    return found


def verdict_table(judged: Sequence[tuple[Case, Verdict]]) -> str:
    """The figures wanted and whether they were met.

    Args:
        judged: case and verdict, in the order to show.

    Returns:
        The table, or a line that says that there is nothing to compare.
    """
    if not judged:
        return "No wanted figure was measured in this run."
    rows = []
    for case, verdict in judged:
        what = f"gradloop / {verdict.against}" if verdict.limit else f"{verdict.against} / gradloop"
        sign = "<=" if verdict.limit else ">="
        hoped = "" if verdict.reach_for is None else f"{verdict.reach_for:g}"
        rows.append(
            [
                case.title,
                what,
                f"{verdict.ratio:.2f}",
                f"{sign} {verdict.at_least:g}",
                hoped,
                verdict.word,
            ]
        )
    head = ["network", "ratio of times", "measured", "wanted", "reach for", "result"]
    return table(head, rows)
