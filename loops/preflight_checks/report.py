"""What a preflight tells: findings, what was fine, and what could not be judged."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

# What a check says: what was seen where all is well; or for each fault what was seen, and what to do.
Verdict: TypeAlias = str | list[tuple[str, str]]
_WIDTH = 100


class NotApplicable(Exception):
    """Raised by a check that has nothing to judge; the message says why."""


class Finding(NamedTuple):
    """One fault, or what looks like one."""

    name: str  # of the check that found it, such as "input_range"
    saw: str  # what it saw, with numbers
    advice: str  # what to do

    @property
    def message(self) -> str:
        """What was seen and what to do, in one text."""
        return f"{self.saw}: {self.advice}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What `preflight` found. Each check is in one of the three: nothing is left out in silence.

    Attributes:
        findings: the faults, each with `.name` and `.message`; empty if all is well.
        passed: what the checks saw that found nothing, by their names.
        left_out: why checks did not apply, by their names.
        seconds: how long it took.
    """

    findings: Sequence[Finding]
    passed: Mapping[str, str]
    left_out: Mapping[str, str]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    def __str__(self) -> str:
        found = {0: "no findings", 1: "1 finding"}.get(len(self.findings), f"{len(self.findings)} findings")
        lines = [
            f"Preflight: {found}, {len(self.passed)} checks passed, {len(self.left_out)} did not apply "
            f"({self.seconds:.1f} s)"
        ]
        rows = [("FOUND", finding.name, finding.message) for finding in self.findings]
        rows += [("fine", name, saw) for name, saw in self.passed.items()]
        rows += [("left out", name, reason) for name, reason in self.left_out.items()]
        width = max((len(name) for _, name, _ in rows), default=0)
        for word, name, text in rows:
            start = f"  {word:8}  {name:{width}}  "
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False
            )
        return "\n".join(lines)
