#!/usr/bin/env python3
"""Kills runs at random moments, and compares what they come to, resumed, with a run that nobody killed."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shared.cluster import cluster
from shared.command_line import Parser, complain, number
from shared.tables import table

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """examples:
  soak.py                               100 kills by SIGKILL, in turns on all cases
  soak.py --kills 6 --cases plan dataset
  soak.py --signal TERM                 asked to end: each saves, and its end is waited for

Each case is a run of three epochs with TensorBoard that saves every third step, by `loops.train` or in a loop
of its own. It is killed at a random moment, from its start on, also while it traces, validates or writes;
then it resumes, until it is done. Weights, optimizer, random numbers, history and the scalars in event files
must be those of a run that nobody killed: bit for bit, or to 1e-6 where each part runs on another number of
devices. Exit status 1 if they are not.
"""


class Case(NamedTuple):
    """A run: a function of `shared.soak_runs`, and on what it runs."""

    make: str
    specs: tuple[str, ...] = ("one",)  # of each part one at random
    workers: int = 1
    tolerance: float = 0.0  # relative, of the largest number


CASES = {
    "plan": Case("plan_that_unfreezes"),
    "dataset": Case("dataset_in_float16"),
    "replicas": Case("dropout_and_batch_norm", ("mirrored:cpu:2",)),
    "loop": Case("OwnLoop", ("mirrored:cpu:2",)),
    "workers": Case("dropout_and_batch_norm", ("multiworker",), workers=2),
    "back": Case("goes_back"),
    "moved": Case("float64", ("one", "mirrored:cpu:2", "mirrored:cpu:3"), tolerance=1e-6),
}
# What is of the clock.
NOT_COMPARED = ("speed/", "memory/")
# Seconds after which a process that was asked to end is taken for stuck.
STUCK = 60.0

# TensorFlow is imported once, in a server: each process begins as a copy of that.
SERVER = get_context("forkserver")


@dataclass
class Found:
    """What became of a case."""

    runs: int = 0
    kills: int = 0
    differing: tuple[str, ...] = ()


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("--kills", type=number(int, at_least=1), default=100, metavar="N", help="kills in all (default: 100)")
    add("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE",
        help=f"which of {', '.join(CASES)} (default: all)")
    add("--signal", choices=["KILL", "TERM", "USR1", "INT"], default="KILL", help="to send (default: KILL)")
    add("--seed", type=int, default=0, help="seed of the moments of the kills (default: 0)")
    add("--folder", type=Path, help="keep the runs there (default: a temporary one)")
    return parser.parse_args(argv)


class Part:
    """The processes of one part of a run, from a start or a resume to its end or a kill."""

    def __init__(self, case: Case, spec: str, folder: Path) -> None:
        from shared import soak_runs

        folder.mkdir(parents=True, exist_ok=True)
        configs: list[str | None] = [None]
        if case.workers > 1:
            addresses = cluster(case.workers, 0)
            tasks = [{"type": "worker", "index": index} for index in range(case.workers)]
            configs = [json.dumps({"cluster": addresses, "task": task}) for task in tasks]
        self.processes: list[ForkServerProcess] = []
        for config in configs:
            arguments = case.make, folder, spec, config
            process = SERVER.Process(target=soak_runs.run, args=arguments, daemon=True)
            process.start()
            self.processes.append(process)

    def ends_within(self, seconds: float) -> bool:
        """Waits so long; whether all have ended."""
        until = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, until - time.monotonic()))
        return all(process.exitcode is not None for process in self.processes)

    def kill(self, number: int, rng: random.Random) -> bool:
        """Sends the signal: to one of several workers, of which the others are killed a little later.

        False if that one has ended since.
        """
        living = [process.pid for process in self.processes if process.exitcode is None and process.pid]
        try:
            os.kill(rng.choice(living), number)
        except (IndexError, ProcessLookupError):
            return False
        if number != signal.SIGKILL and self.ends_within(STUCK):
            return True
        time.sleep(rng.random() if len(self.processes) > 1 else 0.0)
        for process in self.processes:
            process.kill()
            process.join()
        return True


def soak(case: Case, kills: int, number: int, rng: random.Random, folder: Path) -> Found:
    """Kills runs of a case so often, and compares each that got to its end."""
    began = time.monotonic()
    reference = Part(case, case.specs[0], folder / "reference")
    if not reference.ends_within(600.0):
        raise RuntimeError("the run that nobody kills has not ended after 600 seconds")
    seconds, wanted, found = time.monotonic() - began, result(folder / "reference"), Found()
    while found.kills < kills and not found.differing:
        own, began, whole = folder / f"run-{found.runs}", time.monotonic(), True
        while True:
            part = Part(case, rng.choice(case.specs), own)
            kill = found.kills < kills and not part.ends_within(rng.uniform(0.0, seconds))
            if kill and part.kill(number, rng):
                found.kills, whole = found.kills + 1, False
                continue
            part.ends_within(600.0)
            break
        if whole:  # the machine may have been busier before
            seconds = min(seconds, time.monotonic() - began)
        found.runs += 1
        found.differing = tuple(differing(wanted, result(own), case.tolerance))
    return found


def result(folder: Path) -> dict[str, np.ndarray]:
    """Name -> numbers of all that a run came to; RuntimeError if it came to nothing."""
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    from shared import soak_runs

    if not (folder / soak_runs.RESULT).exists():
        said = (folder / soak_runs.OUTPUT).read_text()[-3000:]
        raise RuntimeError(f"the run in {folder} ended without a result. The last that it said:\n{said}")
    found = {f"state {name}": value for name, value in np.load(folder / soak_runs.RESULT).items()}
    history = json.loads((folder / soak_runs.HISTORY).read_text())
    found |= {f"history {name}": np.asarray(values) for name, values in history.items()}
    for run in sorted((folder / "logs").iterdir()):
        if not run.is_dir():
            continue
        events = EventAccumulator(str(run), {"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            values = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
            if not tag.startswith(NOT_COMPARED) and values[0][1].dtype.kind == "f":
                found[f"{run.name} {tag}"] = np.array([(step, float(value)) for step, value in values])
    return found


def differing(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray], tolerance: float) -> list[str]:
    """The names of what is not the same."""
    import numpy as np

    def same(name: str) -> bool:
        one, other = wanted.get(name), found.get(name)
        if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not tolerance or one.dtype.kind != "f":
            return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        return np.allclose(one, other, tolerance, tolerance * np.abs(one).max(initial=0.0), equal_nan=True)

    return [name for name in sorted({*wanted, *found}) if not same(name)]


def main() -> None:
    """Soaks each case, and prints what was found."""
    args = parse()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the server
    SERVER.set_forkserver_preload(["shared.soak_runs"])
    first = SERVER.Process(target=int)  # starts the server, which is no part of a run's time
    first.start()
    first.join()
    number = getattr(signal, f"SIG{args.signal}")
    rows, bad = [], False
    with tempfile.TemporaryDirectory() as temporary:
        for index, name in enumerate(args.cases):
            kills = (args.kills + len(args.cases) - 1 - index) // len(args.cases)
            rng = random.Random(f"{args.seed} {name}")
            found = soak(CASES[name], kills, number, rng, (args.folder or Path(temporary)) / name)
            rows.append([name, str(found.kills), str(found.runs), str(len(found.differing))])
            print(f"{name}: {found.kills} kills, {found.runs} runs", flush=True)
            if found.differing:
                bad = True
                complain(f"{name}: {', '.join(found.differing[:9])} differ from the run that nobody killed")
    print(table(["case", f"SIG{args.signal}", "runs", "differing"], rows))
    raise SystemExit(int(bad))


if __name__ == "__main__":
    main()
