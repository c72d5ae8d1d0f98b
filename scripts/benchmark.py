#!/usr/bin/env python3
"""gradloop beside its peers: one run, alternating turns, medians, ratios, a table and JSON."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import itertools
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from bench import coordinator, figures, frozen, replicas, saving, startup, updates, watching
from bench.case import EXAMPLES_IN_BLOCK, NETWORKS, Case, steps_in_block
from bench.child import Json
from bench.peers import BASE, INSTALL, PEERS, Peer, choose, interpreters
from shared.command_line import Parser, number, one_of

PARTS = ("startup", "updates", "replicas", "frozen", "watching", "saving", "steps")
EPILOG = """
contenders:
{contenders}

Each contender runs in its own process on the CPU; they take turns, the others asleep. All train
the same network on the same data: float32, plain SGD at 0.1, cross-entropy from logits. A ratio
is a contender's time over gradloop's within one round; its median over the rounds is shown.
"1st step" counts building network and data and tracing or compiling, not imports. "loss" is that
of 1,000 training examples at the end. A contender that is not installed is left out by name.

peers in their own environments:
  python3 -m venv VENV; . VENV/bin/activate, then
{install}
  and pass --python torch=VENV/bin/python (same for jax, orbit). orbit needs TensorFlow, tf-keras
  and absl-py (which TensorFlow brings), none of tf-models-official's other dependencies.

examples:
  scripts/benchmark.py --only gradloop bare fit --network lenet5 --batch-size 32
  scripts/benchmark.py --python torch=/opt/torch/bin/python --json figures.json
"""


def parser() -> Parser:
    """The command line."""
    epilog = EPILOG.format(
        contenders="\n".join(f"  {peer.name:15s} {peer.about}" for peer in PEERS.values()),
        install="\n".join(f"  {group:11s} {how}" for group, how in INSTALL.items()),
    )
    made = Parser(__doc__ or "", epilog)
    positive = number(int, at_least=1)
    add = made.add_argument
    add("--network", action="append", choices=list(NETWORKS), help="repeatable; default: both")
    add("--batch-size", type=positive, nargs="+", default=[32, 128], metavar="N", help="default: 32 128")
    add("--only", type=one_of(PEERS), nargs="+", metavar="NAME", help="these contenders alone")
    add("--rounds", type=positive, default=7, metavar="N", help="turns for each contender; default: 7")
    blocks = ", ".join(f"{count} ({network})" for network, count in EXAMPLES_IN_BLOCK.items())
    add("--steps", type=positive, metavar="N",
        help=f"steps a block, at most one epoch; default: as many as take {blocks} examples")
    add("--seconds", type=float, default=0.5,
        help="least length of a turn, filled with whole blocks; default: 0.5")
    add("--python", action="append", default=[], metavar="GROUP=PATH", help="a peer's interpreter")
    add("--data", metavar="FILE.npz",
        help="x_train, y_train for the part steps; the others make their own; default: synthetic images")
    add("--examples", type=positive, default=60_000, metavar="N", help="synthetic examples; default: 60000")
    add("--json", type=Path, metavar="FILE", help="write all figures here as well")
    add("--parts", nargs="+", choices=list(PARTS), default=list(PARTS),
        help="what to time: import and help, the optimizer's update of large networks, steps on several "
        "replicas and workers, frozen networks with a cache and without, a TensorBoard and none, "
        "checkpoints and resuming, training steps; default: all")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; gives 1 where gradloop itself could not be measured, else 0."""
    command = parser()
    options = command.parse_args(argv)
    try:
        peers = choose(options.only)
        pythons = interpreters(options.python, default=sys.executable)
        cases = _cases(options)
        if options.json is not None and not options.json.absolute().parent.is_dir():
            raise ValueError(f"`json` names {options.json}, whose folder does not exist")
    except ValueError as error:
        command.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    report: Json = {"machine": machine(), "cases": [], "left_out": {}}
    print(_describe(report["machine"]), flush=True)
    for part, measure in MEASURES.items():
        if part in options.parts:
            try:
                measure(pythons["tensorflow"], options.rounds, report)
            except RuntimeError as error:
                print(f"{part} not measured: {error}", file=sys.stderr)
    status = 0
    if "steps" in options.parts:
        _measure_steps(cases, peers, pythons, options, report)
        status = int(any(peer.name == BASE for peer in peers) and BASE in report["left_out"])
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return status


def _measure_startup(python: str, rounds: int, report: Json) -> None:
    times = startup.measure(python, startup.programs(Path(__file__).parent))
    print("", *times.lines(), sep="\n", flush=True)
    report["startup"] = dataclasses.asdict(times)


def _measure_updates(python: str, rounds: int, report: Json) -> None:
    report["updates"] = []
    report["plan_s"] = updates.plan_seconds(python)
    print("", updates.plan_line(report["plan_s"]), sep="\n", flush=True)
    for network, optimizer in updates.CASES:
        found = updates.measure(python, network, optimizer, rounds)
        print("", updates.report(network, optimizer, found), sep="\n", flush=True)
        contenders = [dataclasses.asdict(one) for one in found]
        report["updates"].append({"network": network, "optimizer": optimizer, "contenders": contenders})


def _measure_cases(part: ModuleType, python: str, rounds: int, report: Json) -> None:
    found = []
    try:
        for case in part.cases(python, rounds):
            found.append(case)
    finally:  # with what there is
        if found:
            print("", part.report(found), sep="\n", flush=True)
        report[part.__name__.rpartition(".")[2]] = [dataclasses.asdict(one) for one in found]


MEASURES: dict[str, Callable[[str, int, Json], None]] = {
    "startup": _measure_startup,
    "updates": _measure_updates,
    "replicas": functools.partial(_measure_cases, replicas),
    "frozen": functools.partial(_measure_cases, frozen),
    "watching": functools.partial(_measure_cases, watching),
    "saving": functools.partial(_measure_cases, saving),
}


def _measure_steps(
    cases: Sequence[Case],
    peers: Sequence[Peer],
    pythons: dict[str, str],
    options: argparse.Namespace,
    report: Json,
) -> None:
    verdicts = []
    left_out: dict[str, str] = report["left_out"]
    for case in cases:
        print(f"\n{case.title}", file=sys.stderr, flush=True)
        # What is not installed for one case is not for the next.
        present = [peer for peer in peers if peer.name not in left_out]
        results, missing = coordinator.run(
            case, present, pythons, rounds=options.rounds, seconds=options.seconds
        )
        left_out.update(missing)
        if results:
            print(f"\n{figures.results_table(case, results)}", flush=True)
        ratios = figures.to_base(results)
        found = figures.verdicts(case.network, case.batch_size, results)
        verdicts += [(case, verdict) for verdict in found]
        contenders = [
            dataclasses.asdict(one) | {"median_us": one.median_us, "ratio_to_gradloop": ratios.get(one.name)}
            for one in results
        ]
        wanted = [dataclasses.asdict(verdict) | {"result": verdict.word} for verdict in found]
        report["cases"].append(dataclasses.asdict(case) | {"contenders": contenders, "wanted": wanted})
    print(f"\n{figures.verdict_table(verdicts)}")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")


def _cases(options: argparse.Namespace) -> list[Case]:
    examples = options.examples
    if options.data is not None:
        from bench import data

        examples = len(data.from_file(options.data)[1])
    path = options.data and str(Path(options.data).absolute())
    found = []
    for network, batch_size in itertools.product(options.network or NETWORKS, options.batch_size):
        steps = steps_in_block(network, options.steps, examples, batch_size)
        found.append(Case(network, batch_size, steps, options.examples, path))
    return list(dict.fromkeys(found))


def machine() -> Json:
    """Processor, cores this process may use, load and date, for the record."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or a processor that has no name: the architecture must do
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": model,
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _describe(found: Json) -> str:
    text = f"{found['processor']}, {found['cores']} cores, load {found['load']:.1f}"
    return text + (": BUSY, expect noise" if found["load"] > 0.5 else "")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
