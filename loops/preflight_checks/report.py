"""The report of a preflight: findings, checks that passed, and checks that did not apply."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

# What a check returns: its observation where all is well; else for each fault the observation and the advice.
Verdict: TypeAlias = str | list[tuple[str, str]]
_WIDTH = 100


class NotApplicable(Exception):
    """Raised by a check that does not apply; the message says why."""


class Finding(NamedTuple):
    """One fault, or what looks like one."""

    name: str  # of the check that found it, such as "input_range"
    observation: str  # what the check observed, with numbers
    advice: str  # what to do

    @property
    def message(self) -> str:
        """The observation and the advice, in one text."""
        return f"{self.observation}: {self.advice}"


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `preflight`. Each check is in exactly one of findings, `passed` and `left_out`.

    Attributes:
        findings: the faults, each with `.name` and `.message`; empty if all is well.
        passed: the observations of checks that found no fault, by their names.
        left_out: why checks did not apply, by their names.
        seconds: how long the preflight took.
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
        rows += [("fine", name, observation) for name, observation in self.passed.items()]
        rows += [("left out", name, reason) for name, reason in self.left_out.items()]
        width = max((len(name) for _, name, _ in rows), default=0)
        for word, name, text in rows:
            start = f"  {word:8}  {name:{width}}  "
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False
            )
        return "\n".join(lines)
