"""One contender in a process of its own: `python -m bench.worker NAME CASE_AS_JSON`.

It reads requests from standard input and writes answers to the original standard output, one JSON object a
line. Between requests it blocks in a read, so it takes no CPU time from the contender whose turn it is. It
exits at the end of its input.

Requests: `{"do": "build"}`, then any number of `{"do": "measure", "seconds": s}`, then `{"do": "finish"}`.
Before the first one it imports what it needs and reports that, or `{"left_out": reason}`.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

from .child import Json, peak_memory
from .peers import INSTALL, PEERS

if TYPE_CHECKING:  # an interpreter may lack NumPy, which it then reports
    from .case import Contender

LOSS_EXAMPLES = 1_000
PILOT_STEPS = 50
LONGEST_BLOCK_SECONDS = 3.0
DISTRIBUTIONS = {"gradloop.loops": "gradloop", "orbit": "tf-models-official", "tf_keras": "tf_keras"}


def main() -> int:
    """Runs the worker until it is told to finish or its input ends."""
    answers = _claim_output()
    name, case_json = sys.argv[1:]
    peer = PEERS[name]
    for module in peer.needs:
        try:
            importlib.import_module(module)
        except ImportError as error:
            # With a hint how to install a module that is missing.
            reason = f"{error} (in {sys.executable}; try: {INSTALL[peer.group]})"
            _send(answers, {"left_out": reason})
            return 0
    _send(answers, {"versions": _versions(peer.needs)})
    return _serve(name, json.loads(case_json), answers)


def _serve(name: str, case_values: Json, answers: TextIO) -> int:
    from . import data
    from .case import Case

    requests = map(json.loads, sys.stdin)
    if next(requests, None) is None:
        return 0
    case = Case(**case_values)
    module = importlib.import_module(PEERS[name].module)
    images, labels = data.load(case.network, case.examples, case.data)
    loss_examples = images[:LOSS_EXAMPLES].copy(), labels[:LOSS_EXAMPLES].copy()
    start = time.perf_counter()
    contender: Contender = module.build(name, case, images, labels)
    contender.block(1)
    first = time.perf_counter() - start
    del images, labels
    steps = warm_up(contender, case.steps)
    gc.collect()
    built = {"first_step_s": first, "steps": steps, "parameters": contender.parameters}
    _send(answers, {**built, "note": contender.note})
    for request in requests:
        if request["do"] == "finish":
            peak = peak_memory()  # read first: computing the loss takes memory too
            _send(answers, {"peak_mb": peak / 1e6, "loss": contender.loss(*loss_examples)})
            break
        us_per_step, taken = measure(contender, steps, request["seconds"])
        _send(answers, {"us_per_step": us_per_step, "seconds": taken})
    return 0


def warm_up(contender: Contender, steps: int) -> int:
    """Tunes a built contender, runs one whole block, and returns the length of its blocks in steps.

    That is `steps`, or less if a block would take longer than `LONGEST_BLOCK_SECONDS`, but never less than a
    pilot block.
    """
    contender.tune()
    pilot = min(steps, PILOT_STEPS)
    contender.block(pilot)
    start = time.perf_counter()
    contender.block(pilot)
    expected = (time.perf_counter() - start) * steps / pilot
    if expected > LONGEST_BLOCK_SECONDS and steps > pilot:
        # Whole pilots, so that a block stays whole device calls.
        steps = pilot * max(1, int(steps * LONGEST_BLOCK_SECONDS / expected) // pilot)
        contender.note = ", ".join(filter(None, [contender.note, f"blocks of {steps} steps"]))
    if steps != pilot:
        contender.block(steps)
    return steps


def measure(contender: Contender, steps: int, seconds: float) -> tuple[float, float]:
    """Runs whole blocks, at least one, for `seconds`; returns microseconds a step and seconds taken."""
    blocks = 0
    start = time.perf_counter()
    while True:
        contender.block(steps)
        blocks += 1
        taken = time.perf_counter() - start
        if taken >= seconds:
            return taken / (blocks * steps) * 1e6, taken


def _claim_output() -> TextIO:
    """Keeps standard output for answers and sends what libraries print to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _send(answers: TextIO, what: Json) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def _versions(modules: tuple[str, ...]) -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for module in modules:
        name = DISTRIBUTIONS.get(module, module)
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "?"
    return found


if __name__ == "__main__":
    sys.exit(main())
