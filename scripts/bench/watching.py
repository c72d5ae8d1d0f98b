"""What it costs to watch a run: steps of `train` with a `TensorBoard` and without.

`python -m bench.watching NETWORK ROUNDS STEPS` measures one network and prints it as JSON. All contenders
live in one process, each with a model of its own, and take turns.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from . import child
from .figures import ratio, verdict, wanted_text
from shared.tables import table

if TYPE_CHECKING:
    import keras
    import numpy as np

    from gradloop import loops

BASE = "off"


# A contender's time over that without a log should be so much at most.
WANTED = {
    "unwatched steps": 1.01,  # watches that are never due
    "defaults": 1.05,
    "histograms every 100": 1.10,
}
# Batches in a turn, at least several hundred, so that there are histograms in each.
STEPS = {"lenet5": 1000, "resnet50-sized": 300}


@dataclasses.dataclass
class Case:
    """What one network showed."""

    network: str  # of `STEPS`
    us: dict[str, list[float]]  # by contender, microseconds a step, one value a round


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
        base = case.us[BASE]
        rows.append([case.network, BASE, f"{statistics.median(base):.0f}", "", "", ""])
        for name, most in WANTED.items():
            times = round(ratio(case.us[name], base), 3)
            median = f"{statistics.median(case.us[name]):.0f}"
            word = verdict(times, most, most=True)
            rows.append([case.network, name, median, f"{times:.3f}x", wanted_text(most, True), word])
    return table(["network", "log", "us a step", "time", "wanted", ""], rows)


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
        """The number of the last step, and the time, after each call."""

        def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
            self.ticks: list[tuple[int, float]] = []

        def on_train_steps_end(self, first: int, values: dict[str, np.ndarray[Any, Any]]) -> None:
            self.ticks.append((first + len(values["loss"]) - 1, time.perf_counter()))

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
    found = Case(network, {name: [] for name in made})
    for number in range(rounds + 1):
        for name, (step, data) in trainings.items():
            clock = Clock()
            loops.train(step, data, epochs=1, steps_per_epoch=steps, callbacks=[*made[name](), clock])
            if number:  # the first one traces
                # Without the first calls, which are short, and without what a session begins and ends with.
                ticks = [tick for tick in clock.ticks if tick[0] - clock.ticks[0][0] >= steps // 10]
                (first, start), (last, end) = ticks[0], ticks[-1]
                found.us[name].append((end - start) / (last - first) * 1e6)
    return found


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
