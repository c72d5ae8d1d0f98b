#!/usr/bin/env python3
"""Does this machine train with the right numbers? Every kind of device here, beside one CPU.

Each kind trains small networks from the same weights on the same data: one GPU (with and without XLA,
TensorFloat-32 and half precision), several GPUs or parts of one under MirroredStrategy, the CPU as two
devices. Checkpoints, loss scales, the check for NaN and the fused update kernels are tried on each as well.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import shared.command_line as cli
from shared.last_line import last_line
from shared.tables import table

Row: TypeAlias = dict[str, Any]  # a check and what became of it
CHECKS = ("conv", "lstm", "tokens", "batchnorm", "checkpoint", "overflow", "nan", "fused")
FACTOR = 8  # how many times the CPU's own error is allowed
EXAMPLES = """
An error is the distance between a device's weights and those of a training in float64, as a share of the
way that training went. The CPU's own error in float32 tells how training magnifies rounding, and eight times
that is allowed. TensorFloat-32 and half precision are allowed eight times the CPU's error in half precision,
which in turn may be as many times that in float32 as it is coarser (8 * 8,192 in float16, 8 * 65,536 in
bfloat16). No more than 0.5 is allowed: weights that never move are 1 away. For overflow and nan the error
counts what is wrong.

examples:
  check_devices.py                             all that TensorFlow sees here
  check_devices.py --device gpu --only conv    the essentials of one kind
"""


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = cli.Parser(__doc__ or "", EXAMPLES)
    devices = "gpu, mirrored:N (parts of one GPU where there are fewer), mirrored:cpu:N; repeat it for more "
    devices += "(default: all that is here); the CPU comes with each"
    names = f"{', '.join(CHECKS)}; repeat it for more (default: all)"
    limit = "end each kind of device after so long (default: 600)"
    add = parser.add_argument
    add("--device", action="append", metavar="KIND", help=devices)
    add("--only", action="append", type=cli.one_of(CHECKS), metavar="NAME", help=names)
    add("--seconds", type=cli.number(float, above=0), default=600.0, metavar="X", help=limit)
    args = parser.parse_args()
    for kind in args.device or ():
        if not re.fullmatch(r"cpu|gpu|mirrored:(cpu:)?[1-9]\d*", kind):
            cli.refuse(f"--device {kind}: there are cpu, gpu, mirrored:2, mirrored:cpu:2 and the like")
    return args


def kinds_here() -> list[str]:
    """The kinds of devices that TensorFlow sees here, beside the CPU."""
    with cli.quiet_import():
        import tensorflow as tf

        gpus = len(tf.config.list_physical_devices("GPU"))
    return ["gpu", "mirrored:2", f"mirrored:{max(4, gpus)}"] if gpus else ["mirrored:cpu:2"]


def work(sender: Connection, log: str, kind: str, only: list[str]) -> None:
    """The process of one kind of device: sends what becomes of its checks, and logs what it prints."""
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from shared import device_checks

    for row in device_checks.work(kind, only):
        sender.send(row)


def results(kind: str, only: list[str], seconds: float) -> Iterator[Row]:
    """Has a kind of device do its checks in a process of its own.

    Devices are set up once in a process, and what one kind breaks must not end the others.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    begun = time.time()
    with tempfile.NamedTemporaryFile() as log:
        process = context.Process(target=work, args=(sender, log.name, kind, only), daemon=True)
        process.start()
        sender.close()  # else the pipe would not end with the process
        problem = f"ended after --seconds {seconds:g}"
        try:
            while receiver.poll(max(0.0, begun + seconds - time.time())):
                yield receiver.recv()
        except EOFError:
            process.join(10)
            problem = last_line(log.read().decode(errors="replace"))
        process.kill()
        process.join()
    if process.exitcode:
        row = {"kind": kind, "what": "process", "how": f"status {process.exitcode}"}
        yield row | {"problem": problem, "seconds": time.time() - begun}


def judge(rows: list[Row]) -> None:
    """Gives each row that has weights its error and its bound, and a problem if these say so."""
    from shared.device_checks import PLAIN, SETTINGS, distance

    weights = {(row["kind"], row["what"], row["how"]): row.pop("weights") for row in rows if "weights" in row}
    for row in rows:
        kind, what, how = names = row["kind"], row["what"], row["how"]
        if names in weights and "float64" not in how:
            coarser = SETTINGS[how].roundoff / PLAIN.roundoff if kind == "cpu" else 1.0
            like = "float32" if coarser > 1 else SETTINGS[how].like
            try:
                start, right = weights["cpu", what, SETTINGS[how].truth]
                own = distance(weights["cpu", what, like][1], right, start)
            except KeyError:
                row["problem"] = "the CPU has no numbers to compare with"
                continue
            row["error"] = distance(weights[names][1], right, start)
            row["bound"] = min(0.5, FACTOR * coarser * max(own, PLAIN.roundoff))
        if "error" in row and not row["error"] <= row["bound"]:  # or it is no number
            row["problem"] = "the numbers are wrong"


def main() -> None:
    """Checks, prints a table, and ends with status 1 if a check failed."""
    args = parse()
    rows: list[Row] = []
    for kind in dict.fromkeys(["cpu", *(args.device or kinds_here())]):
        print(f"{kind} ...", flush=True)
        rows += results(kind, args.only or list(CHECKS), args.seconds)
    with cli.quiet_import():
        judge(rows)
    rows = [row for row in rows if "float64" not in row["how"] or "problem" in row]
    failed = {f"{row['kind']} {row['what']} {row['how']}": row for row in rows if "problem" in row}
    cells = []
    for row in rows:
        name = f"{row['kind']} {row['what']} {row['how']}"
        numbers = [f"{row[key]:.2e}" if key in row else "-" for key in ("error", "bound")]
        cells.append([name, *numbers, f"{row['seconds']:.1f}", "FAILED" if name in failed else "right"])
    print("\n" + table(["device, check", "error", "bound", "seconds", "result"], cells) + "\n")
    for name, row in failed.items():
        print(f"{name}: {row['problem']}")
    print(*dict.fromkeys(row["traceback"] for row in failed.values() if "traceback" in row), sep="\n")
    print(f"{len(rows) - len(failed)} of {len(rows)} checks are right")
    raise SystemExit(int(bool(failed)))


if __name__ == "__main__":
    main()
