"""The cost of watching a run: steps of `train` with and without a `TensorBoard`.

`python -m bench.watching NETWORK ROUNDS STEPS` measures one network and prints it as JSON. All contenders
live in one process, each with a model of its own, and take turns. Beside the time stands that of the
processor, which other programs on the machine disturb less. The case `events` writes points alone, a quarter
of a million and a million: what each takes must not grow with their number.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import child
from .figures import ratio, verdict, wanted_text
from shared.tables import table

if TYPE_CHECKING:
    import keras
    import numpy as np

    from gradloop import loops

BASE = "off"


# The largest wanted ratio of a contender's time to that of `BASE`.
WANTED = {
    "unwatched steps": 1.01,  # watches that are never due
    "defaults": 1.05,
    "histograms every 100": 1.10,
    "all points": 1.10,
}
EVENTS = "events"
# Batches in a turn, at least several hundred, so that there are histograms in each; of events, points.
STEPS = {"lenet5": 1000, "resnet50-sized": 300, EVENTS: 1_000_000}
_TAGS, _BLOCK = 10, 500  # tags, and steps in a block that is written at once


@dataclasses.dataclass
class Case:
    """The measurements of one network, by contender, one value for each round."""

    network: str  # of `STEPS`
    us: dict[str, list[float]]  # microseconds a step, or a point
    cpu_us: dict[str, list[float]]  # CPU time of all threads
    bytes: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # of a point


def cases(python: str, rounds: int) -> Iterator[Case]:
    """Runs all cases, one after another."""
    return (measure(python, network, rounds) for network in STEPS)


def measure(python: str, network: str, rounds: int, steps: int | None = None) -> Case:
    """Runs one case in a fresh process; see `child.answer` for what it raises."""
    given = (network, str(rounds), str(steps or STEPS[network]))
    return Case(**child.answer(child.start(python, "-m", "bench.watching", *given)))


def report(cases: Sequence[Case]) -> str:
    """The table of the cases, and the wanted figures."""
    rows = []
    for case in cases:
        base, *others = case.us
        for name in (base, *others):
            cells = [case.network, name, f"{statistics.median(case.us[name]):.3g}"]
            if name != base:
                times, cpu = (round(ratio(each[name], each[base]), 3) for each in (case.us, case.cpu_us))
                limit = WANTED[name]
                word = verdict(times, limit, at_most=True)
                cells += [f"{times:.3f}x", wanted_text(limit, True), word, f"{cpu:.3f}x"]
            size = case.bytes.get(name)
            rows.append([*cells, *[""] * (7 - len(cells)), f"{statistics.median(size):.1f}" if size else ""])
    return table(["network", "log", "us", "time", "wanted", "", "CPU time", "bytes"], rows)


def _lenet5() -> tuple[keras.Model, str, loops.Batches]:
    import numpy as np

    from gradloop import loops, models

    rng = np.random.default_rng(0)
    x, y = rng.random((6400, 28, 28, 1), "float32"), rng.integers(0, 10, 6400)
    return models.lenet5_sequential(), "sgd", loops.Batches(x, y, 32)


def _large() -> tuple[keras.Model, str, loops.Batches]:
    """As many weights as ResNet50 has, and Adam, in a network that computes little."""
    import keras
    import numpy as np

    from gradloop import loops

    layers = [keras.layers.Dense(700, "relu") for _ in range(48)]
    model = keras.Sequential([keras.Input((700,)), *layers, keras.layers.Dense(10, "softmax")])
    rng = np.random.default_rng(0)
    x, y = rng.random((640, 700), "float32"), rng.integers(0, 10, 640)
    return model, "adam", loops.Batches(x, y, 8)


_NETWORKS: dict[str, Callable[[], tuple[keras.Model, str, loops.Batches]]] = {
    "lenet5": _lenet5,
    "resnet50-sized": _large,
}


def _run(network: str, rounds: int, steps: int) -> Case:
    from gradloop import loops

    class Clock(loops.StepsCallback):
        """The number of the last step, and the times, after each call."""

        def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
            self.ticks: list[tuple[int, float, float]] = []

        def on_train_steps_end(self, first: int, values: dict[str, np.ndarray[Any, Any]]) -> None:
            self.ticks.append((first + len(values["loss"]) - 1, *_clocks()))

    class Never(loops.StepsCallback):
        def watch(self) -> loops.Watch:
            return loops.Watch(every=10**9)

    made: dict[str, Callable[[], list[keras.callbacks.Callback]]] = {
        BASE: list,
        "unwatched steps": lambda: [Never()],
        "defaults": lambda: [loops.TensorBoard(tempfile.mkdtemp())],
        "histograms every 100": lambda: [
            loops.TensorBoard(tempfile.mkdtemp(), histograms="*", histograms_every=100)
        ],
    }
    trainings = {}
    for name in made:
        model, optimizer, data = _NETWORKS[network]()
        trainings[name] = loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer), data
    found = Case(network, {name: [] for name in made}, {name: [] for name in made})
    for number in range(rounds + 1):
        for name, (step, data) in trainings.items():
            clock = Clock()
            loops.train(step, data, epochs=1, steps_per_epoch=steps, callbacks=[*made[name](), clock])
            if number:  # the first one traces
                # Without the first calls, which are short, and without what a session begins and ends with.
                ticks = [tick for tick in clock.ticks if tick[0] - clock.ticks[0][0] >= steps // 10]
                steps_ran, *taken = (end - start for start, end in zip(ticks[0], ticks[-1]))
                for times, seconds in zip((found.us, found.cpu_us), taken):
                    times[name].append(seconds / steps_ran * 1e6)
    return found


def _run_events(rounds: int, points: int) -> Case:
    import numpy as np

    from gradloop import loops

    rng = np.random.default_rng(0)
    values = {f"tag_{number}": rng.random(_BLOCK) for number in range(_TAGS)}
    sizes = {"a quarter": points // 4, "all points": points}

    def empty() -> dict[str, list[float]]:
        return {name: [] for name in sizes}

    found = Case(EVENTS, empty(), empty(), empty())
    for number in range(rounds + 1):
        for name, size in sizes.items():
            with tempfile.TemporaryDirectory() as folder:
                start = _clocks()
                with loops.TensorBoard(folder) as board:
                    for step in range(1, size // _TAGS + 1, _BLOCK):
                        board.write(step, values)
                written = [path.stat().st_size for path in Path(folder).rglob("*tfevents*")]
                taken = (end - begin for begin, end in zip(start, _clocks()))
            if number:
                for times, seconds in zip((found.us, found.cpu_us), taken):
                    times[name].append(seconds / size * 1e6)
                found.bytes[name].append(sum(written) / size)
    return found


def _clocks() -> tuple[float, float]:
    """Seconds on the wall, and of the processor."""
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    asked, counts = sys.argv[1], [int(text) for text in sys.argv[2:]]
    case = _run_events(*counts) if asked == EVENTS else _run(asked, *counts)
    print(json.dumps(dataclasses.asdict(case)))
