"""The memory of a process at its peak."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import child

SCRIPTS = Path(__file__).parents[3] / "scripts"
MB = 1_000_000
HOLDS_AND_GIVES_BACK = """
from bench import child
block = bytes(range(256)) * (200_000_000 // 256)
held = child.peak_memory()
del block
print(held, child.peak_memory())
"""


def run(code):
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPTS, check=True)
    return [int(word) for word in told.stdout.split()]


def test_counts_what_was_given_back():
    held, afterwards = run(HOLDS_AND_GIVES_BACK)
    # The kernel counts to within some pages.
    assert held > 199 * MB and 199 * MB < afterwards < 300 * MB


@pytest.mark.skipif(not child.STATUS.exists(), reason="other systems count per process anyway")
def test_leaves_out_what_the_process_that_started_this_one_held():
    block = bytes(range(256)) * (200 * MB // 256)
    (told,) = run("from bench import child; print(child.peak_memory())")
    assert MB < told < len(block) / 2


def test_counts_without_proc(monkeypatch, tmp_path):
    proper = child.peak_memory()
    monkeypatch.setattr(child, "STATUS", tmp_path / "none")
    # The same unit: it may count more, not a thousand times less or more.
    assert proper * 0.9 < child.peak_memory() < proper * 100
