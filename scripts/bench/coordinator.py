"""Starts a worker per contender and gives them turns, one at a time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from .case import PARAMETERS, Case
from .figures import Result
from .peers import Peer

SCRIPTS = Path(__file__).resolve().parent.parent
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

    Args:
        peer: the contender.
        case: what it trains.
        python: its interpreter.
        scratch: a folder for its temporary files and its standard error.
        patience: seconds to wait for an answer.
    """

    def __init__(
        self, peer: Peer, case: Case, python: str, scratch: Path, patience: float = 300.0
    ) -> None:
        self.peer, self.patience = peer, patience
        self.errors = scratch / f"{peer.name}.stderr"
        path = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")]))
        own = {"PYTHONPATH": path, "TMPDIR": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(scratch)}
        with self.errors.open("wb") as errors:
            # A session of its own: Ctrl-C reaches the coordinator alone, which then ends the
            # worker together with any compiler processes that it started.
            try:
                self.process = subprocess.Popen(
                    [python, "-m", "bench.worker", peer.name, json.dumps(case.to_json())],
                    env={**os.environ, **QUIET, **own, **peer.environment},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise LeftOut(f"cannot start {python}: {error.strerror}") from error

    def ask(self, **order: Any) -> dict[str, Any]:
        """Sends an order and waits for the answer.

        Args:
            **order: the order, such as `do="build"`.

        Returns:
            The answer.

        Raises:
            WorkerDied: if there is none.
        """
        pipe: IO[bytes] = self.process.stdin  # type: ignore[assignment]  # not None: `PIPE` was asked for
        try:
            pipe.write(json.dumps(order).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise WorkerDied(self.last_words()) from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Waits for one answer; see `ask`."""
        pipe: IO[bytes] = self.process.stdout  # type: ignore[assignment]  # not None: `PIPE` was asked for
        if not select.select([pipe], [], [], self.patience)[0]:
            raise WorkerDied(f"no answer for {self.patience:.0f} seconds")
        line = pipe.readline()
        if not line:
            raise WorkerDied(self.last_words())
        found: dict[str, Any] = json.loads(line)
        if "left_out" in found:
            raise LeftOut(found["left_out"])
        return found

    def last_words(self) -> str:
        """How the process ended and the last line that it wrote to its standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        lines = self.errors.read_text(errors="replace").replace("\r", "\n").splitlines()
        written = [line.strip() for line in lines if line.strip()]
        code = self.process.returncode
        how = f"killed by signal {-code}" if code and code < 0 else f"exit status {code}"
        return f"{how}: {written[-1]}" if written else how

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


@contextlib.contextmanager
def _workers() -> Iterator[tuple[dict[str, Worker], Path]]:
    started: dict[str, Worker] = {}
    prefix = "gradloop-bench-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        try:
            yield started, Path(folder)
        finally:
            for worker in started.values():
                worker.stop()


def run(
    case: Case,
    peers: Iterable[Peer],
    pythons: Mapping[str, str],
    *,
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> tuple[list[Result], dict[str, str]]:
    """Measures all contenders on one case, in turns.

    Args:
        case: network and batch.
        peers: the contenders, in the order of their turns.
        pythons: interpreter by group.
        rounds: turns for each.
        seconds: least length of a turn.
        say: takes progress lines.

    Returns:
        The results in the order of `peers`, and why each missing one is left out.
    """
    results: dict[str, Result] = {}
    left_out: dict[str, str] = {}
    with _workers() as (workers, scratch):

        def drop(name: str, error: Exception) -> None:
            left_out[name] = str(error)
            results.pop(name, None)
            if name in workers:
                workers.pop(name).stop()
            say(f"  {name} left out: {error}")

        # All import at once, which nobody times; from then on one works and the others wait.
        for peer in peers:
            try:
                workers[peer.name] = Worker(peer, case, pythons[peer.group], scratch)
            except LeftOut as error:
                drop(peer.name, error)
        for name, worker in list(workers.items()):
            try:
                results[name] = Result(name, versions=worker.answer()["versions"])
            except (LeftOut, WorkerDied) as error:
                drop(name, error)
        for name, worker in list(workers.items()):
            try:
                built = worker.ask(do="build")
            except WorkerDied as error:
                drop(name, error)
                continue
            if built["parameters"] != PARAMETERS[case.network]:
                wrong = f"trains {built['parameters']} parameters, not {PARAMETERS[case.network]}"
                drop(name, WorkerDied(wrong))
                continue
            result = results[name]
            result.first_step_s, result.steps = built["first_step_s"], built["steps"]
            result.note = built["note"]
            say(f"  {name} ready, first step after {result.first_step_s:.1f} s")
        for number in range(rounds):
            for name, worker in list(workers.items()):
                idle = [other for key, other in workers.items() if key != name]
                before = sum(other.processor_seconds() for other in idle)
                try:
                    answer = worker.ask(do="measure", seconds=seconds)
                except WorkerDied as error:
                    drop(name, error)
                    continue
                after = sum(other.processor_seconds() for other in idle)
                results[name].us_per_step.append(answer["us_per_step"])
                results[name].turn_s += answer["seconds"]
                results[name].idle_cpu_s += after - before
            say(f"  round {number + 1} of {rounds}")
        for name, worker in list(workers.items()):
            try:
                final = worker.ask(do="finish")
            except WorkerDied as error:
                drop(name, error)
                continue
            results[name].peak_mb, results[name].loss = final["peak_mb"], final["loss"]
    return [results[name] for name in results], left_out
