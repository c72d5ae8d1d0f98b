"""Times the update alone: `optimizer.apply` on the variables of a large network, ours and Keras'.

`python -m bench.updates NETWORK OPTIMIZER ROUNDS` measures one case and prints it as JSON. All contenders
live in one process, update the same weights by the same gradients, and take turns.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from . import child
from .figures import ratio, verdict, wanted_text
from shared.tables import table

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from gradloop import optim

Optimizer: TypeAlias = "keras.optimizers.Optimizer | optim.GroupedOptimizer"
CASES = (("ResNet50", "adam"), ("ResNet50", "momentum"), ("MobileNetV2", "adam"))
OPTIMIZERS = {"adam": "Adam", "momentum": "momentum SGD"}
# contender, its counterpart: least ratio of times, hoped for.
BASE = "gradloop, 3 groups"
TARGETS = {
    ("ResNet50", "adam", "keras"): (2.0, 2.5),
    ("ResNet50", "adam", "keras MultiOptimizer of 3"): (2.0, 2.5),
    ("ResNet50", "momentum", "keras"): (1.6, 1.8),
    ("MobileNetV2", "adam", "keras"): (1.5, 1.75),
}
MAX_TRACE = (0.4, 0.25)
MAX_GROUPS = 1.03
MAX_PLAN_S = 0.5


@dataclasses.dataclass
class Contender:
    """The measurements of one optimizer."""

    name: str
    trace_s: float  # seconds to trace the update in a function of one's own, median of 3
    # The same as a `TrainStep` traces it: without conditions that let a group be frozen without a retrace.
    step_trace_s: float
    state_mb: float  # the optimizer's variables, MB (10^6 bytes)
    ms: list[float] = dataclasses.field(default_factory=list)  # milliseconds an update, one value a round


def measure(python: str, network: str, optimizer: str, rounds: int) -> list[Contender]:
    """Runs one case in a fresh process; see `child.answer` for what it raises."""
    process = child.start(python, "-m", "bench.updates", network, optimizer, str(rounds))
    return [Contender(**values) for values in child.answer(process)]


def plan_seconds(python: str) -> float:
    """Seconds to partition a model of 1,000 layers, in a fresh process; median of 5."""
    return float(child.answer(child.start(python, "-m", "bench.updates", "plan")))


def report(network: str, optimizer: str, found: Sequence[Contender]) -> str:
    """The table of one case, and its wanted figures."""
    by_name = {one.name: one for one in found}
    base = by_name[BASE]
    rows = [
        [
            one.name,
            f"{statistics.median(one.ms):.1f}",
            f"{ratio(one.ms, base.ms):.2f}x",
            f"{one.trace_s:.2f}",
            f"{one.step_trace_s:.2f}",
            f"{one.state_mb:.1f}",
        ]
        for one in found
    ]
    lines = [f"update of {network}, {OPTIMIZERS[optimizer]} ({len(base.ms)} rounds)"]
    lines.append(table(["optimizer", "ms", "time", "trace s", "in a step", "state MB"], rows))
    for (of, kind, peer), (least, hoped) in TARGETS.items():
        if (of, kind) == (network, optimizer):
            times = ratio(by_name[peer].ms, base.ms)
            lines.append(_line(f"{peer} / gradloop", times, least, hoped))
    keras = by_name["keras"].trace_s
    if optimizer == "adam":
        lines.append(_line("trace, gradloop / keras", base.trace_s / keras, *MAX_TRACE, at_most=True))
    in_step = base.step_trace_s / keras
    lines.append(_line("trace in a TrainStep, gradloop / keras", in_step, *MAX_TRACE, at_most=True))
    if network == "ResNet50":
        groups = ratio(by_name["gradloop, 100 groups"].ms, by_name["gradloop, 1 group"].ms)
        lines.append(_line("100 groups / 1 group", groups, MAX_GROUPS, None, at_most=True))
    state = max(one.state_mb for one in found if "gradloop" in one.name) / by_name["keras"].state_mb
    lines.append(_line("state, gradloop / keras", state, 1.0, None, at_most=True))
    return "\n".join(lines)


def plan_line(seconds: float) -> str:
    """The figure of `plan_seconds`."""
    return _line("seconds to plan 1,000 layers", seconds, MAX_PLAN_S, None, at_most=True)


def _line(what: str, value: float, wanted: float, hoped: float | None, at_most: bool = False) -> str:
    value = round(value, 3)
    word = verdict(value, wanted, hoped, at_most=at_most)
    return f"  {what}: {value:.3f} (wanted {wanted_text(wanted, at_most)}): {word}"


def _contenders(network: str, optimizer: str) -> tuple[dict[str, Optimizer], list[keras.Variable]]:
    import keras

    from gradloop import optim

    made = {"adam": keras.optimizers.Adam, "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9)}[
        optimizer
    ]
    model = getattr(keras.applications, network)(weights=None, include_top=False)
    variables = model.trainable_variables
    order = optim.partition(model, {"all": "*"}).order

    def grouped(count: int) -> optim.GroupedOptimizer:
        groups = {}
        for index in range(count):
            names = set(order[index * len(order) // count : (index + 1) * len(order) // count])
            groups[str(index)] = optim.Group(_has_name(names), lr_scale=1.0 / (index + 1))
        return optim.GroupedOptimizer(made(1e-3), optim.partition(model, groups))

    def patterns(index: int) -> str:
        third = variables[index * len(variables) // 3 : (index + 1) * len(variables) // 3]
        return "|".join(re.escape(variable.path) for variable in third)

    contenders = {"keras": made(1e-3)}
    if hasattr(keras.optimizers, "MultiOptimizer"):
        parts = {patterns(index): made(1e-3 / (index + 1)) for index in (1, 2)}
        together = keras.optimizers.OptimizerMap(made(1e-3), parts)
        contenders["keras MultiOptimizer of 3"] = keras.optimizers.MultiOptimizer(together)
    for one in contenders.values():
        one.build(variables)
    for count in (1, 3, 100):
        contenders[f"gradloop, {count} group{'s' * (count > 1)}"] = grouped(count)
    return contenders, variables


def _has_name(names: set[str]) -> Callable[[optim.VariableInfo], bool]:
    return lambda info: info.name in names


def _run(network: str, optimizer: str, rounds: int) -> list[Contender]:
    import tensorflow as tf

    contenders, variables = _contenders(network, optimizer)
    gradients = [tf.random.stateless_normal(v.shape, [0, i]) * 1e-3 for i, v in enumerate(variables)]

    def traced(apply: Callable[..., object]) -> tuple[Callable[..., object], float]:
        times = []
        for _ in range(3):
            # Called as a tf.function: a ConcreteFunction checks its arguments one by one, in 0.8 ms each.
            function = tf.function(lambda given: apply(given, variables))
            gc.collect()
            start = time.perf_counter()
            function.get_concrete_function(gradients)
            times.append(time.perf_counter() - start)
        return function, statistics.median(times)

    traced(contenders["keras"].apply)  # the first trace of a process pays for imports
    found, functions = [], []
    for name, one in contenders.items():
        function, seconds = traced(one.apply)
        in_step = seconds
        if name.startswith("gradloop"):
            # A `TrainStep` has AutoGraph off.
            in_step = traced(tf.autograph.experimental.do_not_convert(partial(_apply_in_step, one)))[1]
        functions.append(function)
        size = sum(variable.numpy().nbytes for variable in one.variables)
        found.append(Contender(name, seconds, in_step, size / 1e6))
        function(gradients)
    for _ in range(rounds):
        for one, function in zip(found, functions):
            start = time.perf_counter()
            for _ in range(3):
                function(gradients)
            one.ms.append((time.perf_counter() - start) / 3 * 1e3)
    return found


def _apply_in_step(
    one: optim.GroupedOptimizer, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
) -> None:
    """Updates as a `TrainStep` does."""
    update = one.grouped_update
    update.apply(one, list(zip(update.members_of(variables), gradients)), summed=True, retraces=True)


def _plan() -> float:
    import keras

    from gradloop import optim

    # In blocks, as Keras' own recursion ends short of 1,000 layers in a row.
    blocks = [
        keras.Sequential(
            [keras.Input((2,)), *(keras.layers.Dense(2, name=f"dense_{index}") for index in range(100))],
            name=f"block_{letter}",
        )
        for letter in "abcdefghij"
    ]
    model = keras.Sequential([keras.Input((2,)), *blocks])
    groups = {block.name: f"{block.name}/*" for block in blocks}
    times = []
    for _ in range(5):
        start = time.perf_counter()
        optim.partition(model, groups)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    if sys.argv[1] == "plan":
        print(_plan())
    else:
        found = _run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        print(json.dumps([dataclasses.asdict(one) for one in found]))
