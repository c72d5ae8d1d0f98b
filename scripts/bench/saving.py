"""The cost of saving a run during training, and of resuming it.

`python -m bench.saving CASE ROUNDS STEPS` measures one case and prints it as JSON, with processor time.

- `lenet5`: microseconds a step of `train`, with a checkpoint every 100 steps and without, of one `TrainStep`:
  two of the same network differ by up to 3 % (seen of five, processor time).
- `resnet50`: seconds, with Adam, 307 MB. "write": `save`, that removes no older one; "copy": as many bytes to
  the same disk, synced; "remove": those; "held up": `save(background=True)`; "beside": until it is complete.
- `resume`: seconds from the call of `train` to the end of its first step, of the same network, traced before.
  "above": what a resume takes more than a start without one; "read": TensorFlow's reading of all values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from . import child
from .figures import ratio, verdict, wanted_text
from shared.tables import table

if TYPE_CHECKING:
    import numpy as np

    from gradloop import loops

# By case: a contender, the one that its time is divided by, and what that should be at most.
WANTED = {
    "lenet5": [("saved", "unsaved", 1.03)],
    "resnet50": [("write", "copy", 1.5), ("held up", "beside", 0.10)],
    "resume": [("above", "read", 1.3)],
}
# Of a turn; two of the large network while nothing is written.
STEPS = {"lenet5": 2000, "resnet50": 2, "resume": 1}
_BLOCK = 1 << 20

Clocks: TypeAlias = tuple[float, float]  # seconds on the wall, and of the processor
Make: TypeAlias = Callable[[], Any]  # a step, and its data


@dataclasses.dataclass
class Case:
    """The measurements of one case, by contender, one value for each round."""

    name: str  # of `STEPS`
    times: dict[str, list[float]]  # microseconds a step, or seconds
    cpu: dict[str, list[float]]  # CPU time of all threads

    def add(self, contender: str, taken: Clocks) -> None:
        for found, seconds in zip((self.times, self.cpu), taken):
            found.setdefault(contender, []).append(seconds)


def cases(python: str, rounds: int) -> Iterator[Case]:
    """Runs all cases, one after another."""
    return (measure(python, name, rounds) for name in STEPS)


def measure(python: str, name: str, rounds: int, steps: int | None = None) -> Case:
    """Runs one case in a fresh process; see `child.answer` for what it raises."""
    given = (name, str(rounds), str(steps or STEPS[name]))
    return Case(**child.answer(child.start(python, "-m", "bench.saving", *given)))


def report(cases: Sequence[Case]) -> str:
    """The table of the cases, and the wanted figures."""
    rows = []
    for case in cases:
        for over, under, limit in WANTED[case.name]:
            medians = [f"{statistics.median(case.times[name]):.3g}" for name in (over, under)]
            times, cpu = (round(ratio(each[over], each[under]), 3) for each in (case.times, case.cpu))
            wanted = [wanted_text(limit, True), verdict(times, limit, at_most=True)]
            rows.append([case.name, f"{over} / {under}", *medians, f"{times:.3f}x", *wanted, f"{cpu:.3f}x"])
    return table(["case", "of", "", "and", "ratio", "wanted", "result", "CPU time"], rows)


class _Ended(Exception):
    """Raised to end a run after its first step."""


def _clock(ends: bool = False) -> Any:
    """A callback with `ticks`: the number of the last step, and the clocks, after each call."""
    from gradloop import loops

    class Clock(loops.StepsCallback):
        def __init__(self) -> None:
            super().__init__()
            self.ticks: list[tuple[int, float, float]] = []

        def steps_allowed(self, done: int) -> int | None:
            return 1 if ends else None

        def on_train_steps_end(self, first: int, values: dict[str, np.ndarray[Any, Any]]) -> None:
            self.ticks.append((first + len(values["loss"]) - 1, *_clocks()))
            if ends:
                raise _Ended

    return Clock()


def _lenet5(rounds: int, steps: int) -> Case:
    import numpy as np

    from gradloop import loops, models

    rng = np.random.default_rng(0)
    data = loops.Batches(rng.random((6400, 28, 28, 1), "float32"), rng.integers(0, 10, 6400), 32)
    step = loops.TrainStep(models.lenet5_sequential(), "sparse_categorical_crossentropy", "sgd")
    found = Case("lenet5", {}, {})
    for number in range(rounds + 1):
        for name in ("unsaved", "saved"):
            clock = _clock()
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = loops.Checkpoint(folder, every_steps=100, verbose=0) if name == "saved" else None
                options: dict[str, Any] = {"callbacks": [clock], "checkpoint": checkpoint}
                loops.train(step, data, epochs=1, steps_per_epoch=steps, **options)
            if number:  # the first one traces
                # Without the first calls, which are short, and without what a run begins and ends with.
                ticks = [tick for tick in clock.ticks if tick[0] - clock.ticks[0][0] >= steps // 10]
                ran, wall, cpu = (end - start for start, end in zip(ticks[0], ticks[-1]))
                found.add(name, (wall / ran * 1e6, cpu / ran * 1e6))
    return found


def _resnet50() -> tuple[loops.TrainStep, loops.Batches]:
    import keras
    import numpy as np

    from gradloop import loops

    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    rng = np.random.default_rng(0)
    data = loops.Batches(rng.random((64, 64, 64, 3), "float32"), rng.integers(0, 1000, 64), 8)
    return loops.TrainStep(model, "sparse_categorical_crossentropy", "adam"), data


def _writing(rounds: int, steps: int, make: Make = _resnet50) -> Case:
    from gradloop import loops

    step, data = make()
    step.run(iter(data), 1)
    found = Case("resnet50", {}, {})
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = loops.Checkpoint(f"{folder}/kept", keep=9)
        for number in range(rounds + 1):
            for name, taken in _turn(step, data, checkpoint, steps).items():
                if number:  # the first one warms up
                    found.add(name, taken)
    return found


def _turn(step: Any, data: Any, checkpoint: Any, steps: int) -> dict[str, Clocks]:
    iterator, copy = iter(data), f"{checkpoint.folder}/copy"
    taken = {"write": _timed(lambda: checkpoint.save(step, iterator))}
    taken["copy"] = _timed(lambda: _copy(checkpoint.newest, copy))
    taken["remove"] = _timed(lambda: shutil.rmtree(copy))
    step.run(iterator, steps)
    start = _clocks()
    taken["held up"] = _timed(lambda: checkpoint.save(step, iterator, background=True))
    waits = threading.Thread(
        target=lambda: taken.update(beside=_since(start, (checkpoint.newest, _clocks())[1]))
    )
    waits.start()
    while waits.is_alive():
        step.run(iter(data), 1)
    for place in glob.glob(f"{checkpoint.folder}/*"):
        shutil.rmtree(place)
    os.sync()
    return taken


def _copy(source: str, target: str) -> None:
    """Copies the files of a folder, and syncs them to the disk."""
    os.mkdir(target)
    for name in os.listdir(source):
        with open(f"{source}/{name}", "rb", 0) as reads, open(f"{target}/{name}", "wb", 0) as writes:
            shutil.copyfileobj(reads, writes, _BLOCK)
            os.fsync(writes.fileno())


def _resume(rounds: int, steps: int, make: Make = _resnet50) -> Case:
    from gradloop import loops

    step, data = make()
    found = Case("resume", {}, {})

    def first_step(resume: bool) -> Clocks:
        clock, start = _clock(ends=True), _clocks()
        with contextlib.suppress(_Ended):
            loops.train(
                step,
                data,
                epochs=2,
                steps_per_epoch=steps,
                callbacks=[clock],
                checkpoint=checkpoint,
                resume=resume,
            )
        _, wall, cpu = clock.ticks[0]
        return wall - start[0], cpu - start[1]

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = loops.Checkpoint(folder, verbose=0)
        loops.train(step, data, epochs=1, steps_per_epoch=steps, checkpoint=checkpoint)
        for number in range(rounds + 1):
            usual, resumed = first_step(False), first_step(True)
            read = _timed(lambda: _read(f"{checkpoint.newest}/state"))
            if number:  # the first one warms up
                found.add("above", (resumed[0] - usual[0], resumed[1] - usual[1]))
                found.add("read", read)
    return found


def _read(path: str) -> None:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _timed(call: Callable[[], object]) -> Clocks:
    start = _clocks()
    call()
    return _since(start, _clocks())


def _since(start: Clocks, end: Clocks) -> Clocks:
    return end[0] - start[0], end[1] - start[1]


def _clocks() -> Clocks:
    return time.perf_counter(), time.process_time()


_CASES: dict[str, Callable[..., Case]] = {"lenet5": _lenet5, "resnet50": _writing, "resume": _resume}

if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(_CASES[sys.argv[1]](*map(int, sys.argv[2:])))))
