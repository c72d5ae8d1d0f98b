"""Medians, ratios by round and wanted figures of the measured blocks, and tables of them."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from .case import Case
from .peers import BASE
from shared.tables import table

# network, batch, peer, at least, reach for: how many times as long the peer takes as gradloop with
# accuracy, bar, TensorBoard scalars and callbacks on (two CPU cores).
TARGETS: tuple[tuple[str, int, str, float, float], ...] = (
    ("lenet5", 32, "fit", 2.5, 3.0),
    ("lenet5", 32, "fit-tuned", 1.15, 1.3),
    ("lenet5", 32, "per-step", 1.3, 1.5),
    ("lenet5", 32, "orbit", 1.2, 1.4),
    ("lenet5", 32, "torch", 2.0, 2.3),
    ("lenet5", 128, "fit", 1.7, 1.9),
    ("lenet5", 128, "fit-tuned", 1.0, 1.1),
    ("lenet5", 128, "per-step", 1.05, 1.15),
    ("lenet5", 128, "orbit", 0.95, 1.0),
    ("lenet5", 128, "torch", 1.25, 1.4),
    ("softmax", 32, "fit", 15.0, 22.0),
    ("softmax", 32, "fit-tuned", 3.5, 5.0),
    ("softmax", 32, "per-step", 6.0, 9.0),
    ("softmax", 32, "orbit", 1.8, 2.7),
)
# The largest ratio of gradloop's time to theirs, for all networks and batch sizes.
LIMITS: Mapping[str, float] = {"bare": 1.05, "gradloop-plain": 1.05}
BUSY_SHARE = 0.05
LEARNED_AFTER_STEPS = 300


@dataclasses.dataclass
class Result:
    """The measurements of one contender on one case."""

    name: str
    us_per_step: list[float] = dataclasses.field(default_factory=list)  # one value for each round
    first_step_s: float = 0.0  # from the start of building network and data to its end; imports not counted
    peak_mb: float = 0.0  # peak memory of its process, in MB (10^6 bytes)
    steps: int = 0  # of a block
    loss: float = 0.0  # mean cross-entropy at the end, on 1,000 training examples
    note: str = ""  # what it chose, such as options
    versions: dict[str, str] = dataclasses.field(default_factory=dict)  # of Python and packages
    turn_s: float = 0.0  # seconds of all its turns
    idle_cpu_s: float = 0.0  # processor seconds that the waiting workers used during these

    @property
    def median_us(self) -> float:
        """Median microseconds a step."""
        return statistics.median(self.us_per_step)


def verdict(value: float, wanted: float, hoped: float | None = None, *, at_most: bool = False) -> str:
    """Compares a figure with the wanted one: `"missed"`, `"met"`, or `"reached"` (the better one in `hoped`).

    `value` is rounded as it is shown. With `at_most`, smaller is better, else larger.
    """
    if at_most:
        value, wanted, hoped = -value, -wanted, None if hoped is None else -hoped
    if value < wanted:
        return "missed"
    return "reached" if hoped is not None and value >= hoped else "met"


def wanted_text(wanted: float, at_most: bool = False) -> str:
    """What `verdict` compares with, for the tables."""
    return f"{'<=' if at_most else '>='} {wanted:g}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A ratio of times, and the wanted one."""

    against: str  # the peer
    ratio: float  # the peer's time over gradloop's; for a limit, gradloop's over the peer's
    at_least: float  # the wanted ratio; for a limit, the largest one
    reach_for: float | None  # the better ratio that is hoped for; None for a limit
    limit: bool = False

    @property
    def word(self) -> str:
        """The result of `verdict`."""
        return verdict(self.ratio, self.at_least, self.reach_for, at_most=self.limit)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Median over rounds of the ratio within each round, so both need as many values, one at least.

    Two blocks of one round ran within seconds of each other, so a machine that slows down for a
    while slows both and leaves their ratio alone; a ratio of medians lacks this.
    """
    if not numerator or len(numerator) != len(denominator):
        raise ValueError(
            f"`numerator` has {len(numerator)} rounds and `denominator` {len(denominator)}: "
            "both need the same number, at least one"
        )
    return statistics.median(a / b for a, b in zip(numerator, denominator))


def to_base(results: Iterable[Result]) -> dict[str, float]:
    """Each contender's time as a multiple of gradloop's; empty where gradloop did not run."""
    by_name = {result.name: result for result in results}
    if BASE not in by_name:
        return {}
    base = by_name[BASE].us_per_step
    return {name: ratio(result.us_per_step, base) for name, result in by_name.items()}


def verdicts(network: str, batch_size: int, results: Iterable[Result]) -> list[Verdict]:
    """The wanted figures of a case that were measured: targets in the order of `TARGETS`, then limits."""
    by_name = {result.name: result for result in results}
    if BASE not in by_name:
        return []
    base = by_name[BASE].us_per_step
    found = [
        Verdict(peer, ratio(by_name[peer].us_per_step, base), least, hoped)
        for target_network, target_batch, peer, least, hoped in TARGETS
        if (target_network, target_batch) == (network, batch_size) and peer in by_name
    ]
    found += [
        Verdict(peer, ratio(base, by_name[peer].us_per_step), most, None, limit=True)
        for peer, most in LIMITS.items()
        if peer in by_name
    ]
    return found


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
    """Reasons to doubt a result: waiting workers used the CPU in its turns, or it did not learn."""
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
    for case, one in verdicts:
        what = f"gradloop / {one.against}" if one.limit else f"{one.against} / gradloop"
        hoped = "" if one.reach_for is None else f"{one.reach_for:g}"
        wanted = wanted_text(one.at_least, at_most=one.limit)
        rows.append([case.title, what, f"{one.ratio:.2f}", wanted, hoped, one.word])
    return table(["network", "ratio of times", "measured", "wanted", "reach for", "result"], rows)
