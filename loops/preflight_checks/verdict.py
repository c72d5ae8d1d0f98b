"""What a check says."""

from __future__ import annotations

from typing import TypeAlias

# What was seen where all is well; or for each fault what was seen, and what to do. A check that has nothing
# to judge raises `NotApplicable`.
Verdict: TypeAlias = str | list[tuple[str, str]]
