"""Steps on several replicas: ours beside the `strategy.run` loop that an expert writes.

Both do the same work: arrays on the device in a shuffled order, a check that gradients are finite, one
update, the loss of every step. The loop by hand takes equal parts alone.

`python -m bench.replicas NETWORK REPLICAS ROUNDS` measures one case on logical CPU devices, or as the worker
that TF_CONFIG names, and prints it as JSON. Both contenders live in one process and take turns.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import child
from .figures import ratio, verdict, wanted_text
from shared.cluster import cluster
from shared.tables import table

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

NETWORKS = ("softmax", "lenet5")
REPLICAS = (1, 2, 4, 8)
WORKERS = 2
MAX_RATIO = 1.05
BATCH = 128
_STEPS = {"softmax": 400, "lenet5": 50}


@dataclasses.dataclass
class Case:
    """What one network on so many replicas showed."""

    network: str  # of `NETWORKS`
    where: str  # "4 replicas", "2 workers"
    ours: list[float]  # microseconds a step of `TrainStep.run`, one value a round
    bare: list[float]  # of the loop by hand
    reductions: int | None  # calls of an all-reduce in one of our steps; None where they were not counted
    traces: int  # how often our step was traced in all


def cases(python: str, rounds: int) -> Iterator[Case]:
    """Runs all cases, one after another."""
    for network in NETWORKS:
        for count in REPLICAS:
            yield measure(python, network, count, rounds)
        yield measure_workers(python, network, rounds)


def measure(python: str, network: str, replicas: int, rounds: int) -> Case:
    """Runs one case on logical devices, in a fresh process; see `child.answer` for what it raises."""
    process = child.start(python, "-m", "bench.replicas", network, str(replicas), str(rounds))
    return Case(**child.answer(process))


def measure_workers(python: str, network: str, rounds: int) -> Case:
    """Runs one case on two workers on loopback; see `child.answer` for what it raises."""
    addresses = cluster(WORKERS, 0)
    processes = []
    try:
        for index in range(WORKERS):
            config = json.dumps({"cluster": addresses, "task": {"type": "worker", "index": index}})
            command = ("-m", "bench.replicas", network, str(WORKERS), str(rounds))
            processes.append(child.start(python, *command, TF_CONFIG=config))
        return Case(**child.answer(processes[0]))
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def report(cases: list[Case]) -> str:
    """The table of all cases, and the wanted figures."""
    rows = []
    for case in cases:
        times = round(ratio(case.ours, case.bare), 2)
        ours, bare = statistics.median(case.ours), statistics.median(case.bare)
        counted = "" if case.reductions is None else str(case.reductions)
        word = verdict(times, MAX_RATIO, at_most=True)
        figures = [f"{ours:.0f}", f"{bare:.0f}", f"{times:.2f}", word]
        rows.append([case.network, case.where, *figures, counted, str(case.traces)])
    wanted = wanted_text(MAX_RATIO, at_most=True)
    head = ["network", "on", "gradloop us", "bare us", "ratio", wanted, "all-reduces", "traces"]
    return f"steps on replicas, {BATCH} examples a batch ({len(cases[0].ours)} rounds)\n{table(head, rows)}"


def _run(network: str, replicas: int, rounds: int) -> Case:
    steps = _STEPS[network]  # before the imports, which take seconds
    import tensorflow as tf

    from gradloop import loops

    workers = "TF_CONFIG" in os.environ
    counter = _counting() if not workers else None
    if counter is None:
        strategy = loops.strategy("multiworker")
    else:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
        devices = [f"/cpu:{index}" for index in range(replicas)]
        strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=counter)
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.random((BATCH * steps, 28, 28, 1), dtype=np.float32)
    y = rng.integers(0, 10, len(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with strategy.scope():
        model = _model(network)
        step = loops.TrainStep(model, loss, keras.optimizers.SGD(0.1))
    data = loops.Batches(x, y, BATCH)

    def ours() -> None:
        step.run(iter(data), steps)

    bare = _bare(strategy, network, x, y, steps)
    before = counter.calls if counter else 0
    ours()
    reductions = counter.calls - before if counter else None
    bare()
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds + 1):
        for name, run in (("ours", ours), ("bare", bare)):
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / steps * 1e6)
    where = f"{replicas} {'workers' if workers else 'replicas' if replicas > 1 else 'replica'}"
    # The first round fills caches.
    return Case(network, where, times["ours"][1:], times["bare"][1:], reductions, step.traces)


def _model(network: str) -> keras.Model:
    import keras

    from gradloop import models

    if network == "lenet5":
        return models.lenet5_sequential()
    return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])


def _bare(
    strategy: tf.distribute.Strategy, network: str, x: np.ndarray, y: np.ndarray, steps: int
) -> Callable[[], None]:
    """The loop by hand: arrays on the device, a shuffled order, `strategy.run` and Keras' optimizer."""
    import keras
    import tensorflow as tf

    with strategy.scope():
        model = _model(network)
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
    images, labels = tf.constant(x), tf.constant(y)
    part = BATCH // strategy.num_replicas_in_sync

    def replica(indices: tf.Tensor) -> tf.Tensor:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        own = indices[number * part : (number + 1) * part]
        batch, truth = tf.gather(images, own), tf.gather(labels, own)
        with tf.GradientTape() as tape:
            logits = model(batch, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
            loss = tf.reduce_sum(losses) / BATCH
        gradients = tape.gradient(loss, model.trainable_variables)
        gradients = [tf.debugging.check_numerics(gradient, "gradient") for gradient in gradients]
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    def loop(seed: tf.Tensor) -> tf.Tensor:
        losses = tf.TensorArray(tf.float32, steps)
        # Seeded, as the workers must agree.
        order = tf.random.experimental.stateless_shuffle(tf.range(len(x)), [seed, 0])
        for step in tf.range(steps):
            indices = tf.slice(order, [step * BATCH], [BATCH])
            loss = strategy.reduce("SUM", strategy.run(replica, args=(indices,)), axis=None)
            losses = losses.write(step, loss)
        return losses.stack()

    calls, traced = 0, tf.function(loop)

    def run() -> None:
        nonlocal calls
        calls += 1
        with strategy.scope():
            traced(tf.constant(calls, tf.int64)).numpy()

    return run


def _counting() -> tf.distribute.CrossDeviceOps:
    import tensorflow as tf

    class Counting(tf.distribute.ReductionToOneDevice):
        calls = 0

        def batch_reduce(self, *args: object, **kwargs: object) -> list[tf.Tensor]:
            self.calls += 1
            return super().batch_reduce(*args, **kwargs)

        def reduce(self, *args: object, **kwargs: object) -> tf.Tensor:
            self.calls += 1
            return super().reduce(*args, **kwargs)

    return Counting()


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
    sys.stdout.flush()
    # Workers wait for each other at exit.
    os._exit(0)
