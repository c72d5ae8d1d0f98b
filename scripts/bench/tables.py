"""The tables on screen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .case import Case
from .figures import Result, Verdict, to_base, wanted_text
from shared.tables import table

BUSY_SHARE = 0.05
LEARNED_AFTER_STEPS = 300


def results_table(case: Case, results: Sequence[Result]) -> str:
    """A title line and a table of all contenders of one case."""
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
    if not math.isfinite(result.loss) or (trained >= LEARNED_AFTER_STEPS and result.loss > math.log(10)):
        found.append("DID NOT LEARN")
    return found


def verdict_table(verdicts: Sequence[tuple[Case, Verdict]]) -> str:
    """The figures wanted and whether they were met, in the order given, or a line that there are none."""
    if not verdicts:
        return "No wanted figure was measured in this run."
    rows = []
    for case, verdict in verdicts:
        what = f"gradloop / {verdict.against}" if verdict.limit else f"{verdict.against} / gradloop"
        hoped = "" if verdict.reach_for is None else f"{verdict.reach_for:g}"
        wanted = wanted_text(verdict.at_least, most=verdict.limit)
        rows.append([case.title, what, f"{verdict.ratio:.2f}", wanted, hoped, verdict.word])
    return table(["network", "ratio of times", "measured", "wanted", "reach for", "result"], rows)
