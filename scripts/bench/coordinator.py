"""Starts a worker per contender and gives them turns, one at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from . import child
from .case import PARAMETERS, Case
from .child import Json
from .figures import Result
from .peers import ENVIRONMENT, Peer

QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
    "KERAS_BACKEND": "tensorflow",
    # All contenders compute on the CPU, or a table would compare machines.
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
}


class WorkerDied(RuntimeError):
    """A worker ended, or stayed silent for too long, before it answered."""


class LeftOut(RuntimeError):
    """A worker's interpreter lacks what the contender needs."""


class Worker:
    """The coordinator's end of one worker process.

    Its temporary files and standard error go to `scratch`; it has `timeout` seconds for an answer.
    """

    def __init__(self, peer: Peer, case: Case, python: str, scratch: Path, timeout: float = 300.0) -> None:
        self.peer, self.timeout = peer, timeout
        self.errors = scratch / f"{peer.name}.stderr"
        path = os.pathsep.join(filter(None, [str(child.SCRIPTS), os.environ.get("PYTHONPATH")]))
        own = {"PYTHONPATH": path, "TMPDIR": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(scratch)}
        with self.errors.open("wb") as errors:
            # A session of its own: Ctrl-C reaches the coordinator alone, which then ends the
            # worker together with any compiler processes that it started.
            try:
                self.process = subprocess.Popen(
                    [python, "-m", "bench.worker", peer.name, json.dumps(dataclasses.asdict(case))],
                    env={**os.environ, **QUIET, **own, **ENVIRONMENT.get(peer.group, {})},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise LeftOut(f"cannot start {python}: {error.strerror}") from error

    def ask(self, **request: str | float) -> Json:
        """Sends a request, such as `do="build"`, and waits for the answer; raises as `answer` does."""
        pipe: IO[bytes] = self.process.stdin  # type: ignore[assignment]  # not None: `PIPE` was asked for
        try:
            pipe.write(json.dumps(request).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise WorkerDied(self.exit_reason()) from None
        return self.answer()

    def answer(self) -> Json:
        """Waits for one answer; raises `WorkerDied` or `LeftOut` if there is none."""
        pipe: IO[bytes] = self.process.stdout  # type: ignore[assignment]  # not None: `PIPE` was asked for
        if not select.select([pipe], [], [], self.timeout)[0]:
            raise WorkerDied(f"no answer for {self.timeout:.0f} seconds")
        line = pipe.readline()
        if not line:
            raise WorkerDied(self.exit_reason())
        answer: Json = json.loads(line)
        if "left_out" in answer:
            raise LeftOut(answer["left_out"])
        return answer

    def exit_reason(self) -> str:
        """How the process ended and the last line that it wrote to its standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        return child.exit_reason(self.process, self.errors.read_text(errors="replace"))

    def processor_seconds(self) -> float:
        """Processor time used so far, or 0.0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ends the worker and whatever it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()


def run(
    case: Case,
    peers: Iterable[Peer],
    pythons: Mapping[str, str],
    *,
    rounds: int,
    seconds: float,
    log: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> tuple[list[Result], dict[str, str]]:
    """Measures all contenders on one case, in turns: `rounds` for each, of so many `seconds` at the least.

    Takes interpreters by group, and gives the results in the order of `peers`, and why each missing one is
    left out.
    """
    workers: dict[str, Worker] = {}
    results: dict[str, Result] = {}
    left_out: dict[str, str] = {}

    def drop(name: str, error: Exception) -> None:
        left_out[name] = str(error)
        results.pop(name, None)
        if name in workers:
            workers.pop(name).stop()
        log(f"  {name} left out: {error}")

    def answers(**request: str | float) -> Iterator[tuple[str, Json]]:
        """The answer of each worker in turn to a request, or without one; workers that fail are dropped."""
        for name, worker in list(workers.items()):
            try:
                yield name, worker.ask(**request) if request else worker.answer()
            except (LeftOut, WorkerDied) as error:
                drop(name, error)

    def idle_seconds(active: str) -> float:
        return sum(worker.processor_seconds() for name, worker in workers.items() if name != active)

    def stop_all() -> None:
        for worker in workers.values():
            worker.stop()

    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="gradloop-bench-", ignore_cleanup_errors=True)
        scratch = Path(stack.enter_context(folder))
        stack.callback(stop_all)
        # All import at once, which nobody times; from then on one works and the others wait.
        for peer in peers:
            try:
                workers[peer.name] = Worker(peer, case, pythons[peer.group], scratch)
            except LeftOut as error:
                drop(peer.name, error)
        for name, answer in answers():
            results[name] = Result(name, versions=answer["versions"])
        for name, answer in answers(do="build"):
            if answer["parameters"] != PARAMETERS[case.network]:
                wrong = f"trains {answer['parameters']} parameters, not {PARAMETERS[case.network]}"
                drop(name, WorkerDied(wrong))
                continue
            result = results[name]
            result.first_step_s, result.steps = answer["first_step_s"], answer["steps"]
            result.note = answer["note"]
            log(f"  {name} ready, first step after {result.first_step_s:.1f} s")
        for number in range(rounds):
            for name, worker in list(workers.items()):
                before = idle_seconds(name)
                try:
                    answer = worker.ask(do="measure", seconds=seconds)
                except WorkerDied as error:
                    drop(name, error)
                    continue
                results[name].us_per_step.append(answer["us_per_step"])
                results[name].turn_s += answer["seconds"]
                results[name].idle_cpu_s += idle_seconds(name) - before
            log(f"  round {number + 1} of {rounds}")
        for name, answer in answers(do="finish"):
            results[name].peak_mb, results[name].loss = answer["peak_mb"], answer["loss"]
    return list(results.values()), left_out
