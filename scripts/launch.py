#!/usr/bin/env python3
"""Starts a cluster's tasks on this machine: workers, or a chief with workers and parameter servers."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from shared.cluster import cluster
from shared.command_line import Parser, number, refuse

EXAMPLES = """examples:
  launch.py --workers 2 scripts/train_lenet.py --strategy multiworker --epochs 3
  launch.py --workers 2 --parameter-servers 1 scripts/train_lenet.py --strategy parameter_server
  launch.py --workers 2 --restarts 5 scripts/train_lenet.py --strategy multiworker --checkpoint run

Every task runs the script with the same arguments and its own TF_CONFIG, on loopback. All end together: when
one fails, with its exit status; with parameter servers, when the chief is done (a worker that is killed there
is survived, as long as there are others); on Ctrl-C. With --restarts, all are started again when one fails: a
script that trains with a checkpoint resumes from it, with the same numbers. A signal to end (SIGTERM,
SIGUSR1, Ctrl-C) is passed on as SIGTERM. Tasks that have saved then end with status 75, and so does this
program, for a scheduler that starts it again; it does not do so itself.
"""
# Seconds that a task has to end when it is asked to.
GRACE = 10.0
# The same where this program was asked to end, and so all tasks, which may save what they did.
GRACE_TO_SAVE = 60.0
TIMED_OUT = 124  # as `timeout` of the shell has it
ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PREEMPTED = 75  # of a task that was asked to end, and saved: `loops.Preempted`


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("--workers", type=number(int, at_least=1), default=2, metavar="N", help="workers (default: 2)")
    add("--parameter-servers", type=number(int, at_least=0), default=0, metavar="N",
        help="parameter servers, which a chief then comes with (default: 0: workers alone)")
    add("--timeout", type=number(float, above=0), metavar="SECONDS",
        help="end all tasks after so long, restarts included, with status 124 (default: never)")
    add("--restarts", type=number(int, at_least=0), default=0, metavar="N",
        help="how often to start all tasks again when one fails (default: 0)")
    add("--min-workers", type=number(int, at_least=1), metavar="N",
        help="start again without the workers that were killed, as long as N are left "
             "(default: with as many as before)")
    add("script", type=Path, metavar="SCRIPT", help="a Python script")
    add("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    args = parser.parse_args(argv)
    if not args.script.is_file():
        refuse(f"SCRIPT: there is no file {args.script}")
    if args.min_workers is not None and args.min_workers > args.workers:
        refuse(f"--min-workers: {args.min_workers} are more than --workers {args.workers}")
    if args.min_workers is not None and not args.restarts:
        refuse("--min-workers: says how to start again; pass --restarts N too")
    return args


class Task:
    """A running task, whose name stands before each line of its output.

    Lines that are written over, as progress bars are, pass where it `shows_bars`; else their last does.
    """

    def __init__(self, name: str, command: list[str], config: dict[str, object], shows_bars: bool) -> None:
        self.name = name
        self._shows_bars = shows_bars
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), "PYTHONUNBUFFERED": "1"}
        # In a group of its own: Ctrl-C comes to us, and what the task starts ends with it.
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._copy, args=(self.process.stdout,))
        self._reader.start()

    def _copy(self, output: IO[bytes]) -> None:
        # Decodes over the borders of blocks, and keeps \r.
        text = io.TextIOWrapper(output, errors="replace", newline="")
        rest = ""
        while block := text.read(1) if self._shows_bars else text.readline():
            rest += block
            if rest.endswith("\n") or (self._shows_bars and rest.endswith("\r")):
                self._print(rest)
                rest = ""
        if rest:
            self._print(rest + "\n")

    def _print(self, line: str) -> None:
        if not self._shows_bars:
            line = line.rstrip().rpartition("\r")[2] + "\n"
        if line.strip():
            sys.stdout.write(f"{self.name} | {line}")
            sys.stdout.flush()

    def send(self, number: int) -> None:
        """Sends a signal to the task and to what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self, until: float) -> None:
        """Waits for a task that was asked to end, and kills it at a time of `time.monotonic`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, until - time.monotonic()))
        self.send(signal.SIGKILL)
        self.process.wait()
        self._reader.join()


def start(addresses: dict[str, list[str]], command: list[str], tasks: list[Task]) -> None:
    """Starts one task for each address; `tasks` holds those that run, whatever interrupts it."""
    for kind, own in addresses.items():
        for index in range(len(own)):
            config = {"cluster": addresses, "task": {"type": kind, "index": index}}
            name = kind if kind == "chief" else f"{kind} {index}"
            tasks.append(Task(name, command, config, shows_bars=not tasks))


def wait(tasks: list[Task], until: float) -> tuple[int, list[Task]]:
    """Waits for the end of all tasks, of the chief if there is one, for a failure, or for a time of
    `time.monotonic`; returns the exit status, and the tasks that failed."""
    leader = tasks[0] if tasks[0].name == "chief" else None
    while time.monotonic() < until:
        codes = {task: task.process.poll() for task in tasks}
        # A chief goes on without a worker that was killed, not without one that failed by itself.
        failed = [
            task
            for task, code in codes.items()
            if code and code != PREEMPTED and not (leader and task is not leader and code < 0)
        ]
        if failed:
            # The first to be killed, if any: others fail because it is gone.
            failed = [task for task in failed if task.process.returncode < 0] or failed
            return status_of(failed[0]), failed
        ended = codes.values() if leader is None else [codes[leader]]
        if None not in ended:
            return PREEMPTED if PREEMPTED in ended else 0, []
        time.sleep(0.05)
    return TIMED_OUT, []


def status_of(task: Task) -> int:
    """The exit status of a task that has ended, as shells tell it."""
    code = int(task.process.returncode)
    return 128 - code if code < 0 else code


def how_it_ended(task: Task) -> str:
    """What became of a task that failed."""
    code = int(task.process.returncode)
    how = f"failed with status {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    return f"{task.name} {how}"


def end(tasks: list[Task], grace: float) -> None:
    """Asks all tasks to end, and kills those that have not after so many seconds."""
    for task in tasks:
        task.send(signal.SIGTERM)
    until = time.monotonic() + grace
    for task in tasks:
        task.end(until)


def run(args: argparse.Namespace, command: list[str], until: float) -> int:
    """Runs all tasks, and again where one fails and they may start again; returns the exit status."""
    workers, restarts = args.workers, 0
    while True:
        tasks: list[Task] = []
        try:
            start(cluster(workers, args.parameter_servers), command, tasks)
            status, failed = wait(tasks, until)
            if failed:
                say(f"{', '.join(map(how_it_ended, failed))}; ending the others")
            elif status == TIMED_OUT:
                say(f"not done after {args.timeout:g} seconds; ending all")
        except SystemExit as asked:  # to end, by a signal
            end(tasks, GRACE_TO_SAVE)
            codes = {task.process.returncode for task in tasks}
            return PREEMPTED if codes == {PREEMPTED} else int(asked.code or 0)
        finally:
            end(tasks, GRACE)
        if args.min_workers is not None:
            workers -= sum(task.process.returncode < 0 and task.name != "chief" for task in failed)
        if not failed or restarts == args.restarts:
            return status
        if workers < (args.min_workers or 1):
            say(f"{workers} of the workers are left, fewer than --min-workers {args.min_workers or 1}")
            return status
        restarts += 1
        say(f"starting again with {workers} workers: restart {restarts} of {args.restarts}")


def say(text: str) -> None:
    """Tells what happens to the tasks."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Starts the tasks and ends with their status."""
    args = parse()
    command = [sys.executable, str(args.script), *args.arguments]

    def interrupted(number: int, _: object) -> None:
        for again in ASKED_TO_END:
            signal.signal(again, signal.SIG_IGN)  # the tasks are being ended already
        raise SystemExit(128 + number)

    for number_ in ASKED_TO_END:
        signal.signal(number_, interrupted)
    until = math.inf if args.timeout is None else time.monotonic() + args.timeout
    raise SystemExit(run(args, command, until))


if __name__ == "__main__":
    main()
