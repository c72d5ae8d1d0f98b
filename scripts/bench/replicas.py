"""Steps on several replicas: ours beside the `strategy.run` loop that an expert writes.

Both do the same work: arrays on the device in a shuffled order, a check that gradients are finite, one
update, the loss of every step. The loop by hand takes equal parts alone.

`python -m bench.replicas NETWORK REPLICAS ROUNDS` measures one case on logical CPU devices and prints it as
JSON; with TF_CONFIG set, the worker that it names, where REPLICAS says nothing. Both contenders live in one
process and take turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from .figures import ratio
from .tables import table

NETWORKS = ("softmax", "lenet5")
REPLICAS = (1, 2, 4, 8)
WORKERS = 2
MOST = 1.05
BATCH = 128
_STEPS = {"softmax": 400, "lenet5": 50}


@dataclasses.dataclass
class Case:
    """What one network on so many replicas showed.

    Args:
        network: "softmax" or "lenet5".
        where: "4 replicas", "2 workers".
        ours: microseconds a step of `TrainStep.run`, one value a round.
        bare: of the loop by hand.
        reductions: calls of an all-reduce in one of our steps; None where they were not counted.
        traces: how often our step was traced in all.
    """

    network: str
    where: str
    ours: list[float]
    bare: list[float]
    reductions: int | None
    traces: int


def measure(python: str, network: str, replicas: int, rounds: int, cwd: str) -> Case:
    """Runs one case on logical devices, in a fresh process.

    Raises:
        RuntimeError: if it fails; the message is its last line.
    """
    command = [python, "-m", "bench.replicas", network, str(replicas), str(rounds)]
    pipe = subprocess.PIPE
    return _read(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=cwd))


def measure_workers(python: str, network: str, rounds: int, cwd: str) -> Case:
    """Runs one case on two workers on loopback.

    Raises:
        RuntimeError: if it fails; the message is its last line.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(WORKERS)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    command = [python, "-m", "bench.replicas", network, str(WORKERS), str(rounds)]
    processes = []
    for index in range(WORKERS):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        processes.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment
            )
        )
    try:
        return _read(processes[0])
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def report(cases: list[Case]) -> str:
    """The table of all cases, and the wanted figures."""
    rows = []
    for case in cases:
        times = ratio(case.ours, case.bare)
        ours, bare = (sorted(some)[len(some) // 2] for some in (case.ours, case.bare))
        counted = "" if case.reductions is None else str(case.reductions)
        word = "met" if round(times, 2) <= MOST else "missed"
        figures = [f"{ours:.0f}", f"{bare:.0f}", f"{times:.2f}", word]
        rows.append([case.network, case.where, *figures, counted, str(case.traces)])
    head = ["network", "on", "gradloop us", "bare us", "ratio", f"<= {MOST}", "all-reduces", "traces"]
    return f"steps on replicas, {BATCH} examples a batch ({len(cases[0].ours)} rounds)\n{table(head, rows)}"


def _read(process: subprocess.Popen[str]) -> Case:
    out, err = process.communicate(timeout=1800)
    if process.returncode:
        raise RuntimeError((err.strip().splitlines() or ["no message"])[-1])
    return Case(**json.loads(out.strip().splitlines()[-1]))


def _run(network: str, replicas: int, rounds: int) -> dict[str, Any]:
    steps = _STEPS[network]  # before the imports, which take seconds
    import time

    import tensorflow as tf

    from gradloop import loops

    workers = "TF_CONFIG" in os.environ
    counter = _counting() if not workers else None
    if counter is None:
        strategy: Any = loops.strategy("multiworker")
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

    bare = _bare(strategy, _model, network, x, y, steps)
    reductions = None
    if counter is not None:
        counter.calls = 0
    ours()
    if counter is not None:
        reductions = counter.calls
    bare()
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds + 1):
        for name, run in (("ours", ours), ("bare", bare)):
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / steps * 1e6)
    where = f"{replicas} {'workers' if workers else 'replicas' if replicas > 1 else 'replica'}"
    # The first round fills caches.
    kept = {name: some[1:] for name, some in times.items()}
    return {"network": network, "where": where, "reductions": reductions, "traces": step.traces, **kept}


def _model(network: str) -> Any:
    import keras

    from gradloop import models

    if network == "lenet5":
        return models.lenet5_sequential()
    return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])


def _bare(
    strategy: Any, make: Callable[[str], Any], network: str, x: Any, y: Any, steps: int
) -> Callable[[], None]:
    """The loop by hand: arrays on the device, a shuffled order, `strategy.run` and Keras' optimizer."""
    import keras
    import tensorflow as tf

    with strategy.scope():
        model = make(network)
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
    images, labels = tf.constant(x), tf.constant(y)
    part = BATCH // strategy.num_replicas_in_sync

    def replica(indices: Any) -> Any:
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

    def loop(seed: Any) -> Any:
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


def _counting() -> Any:
    import tensorflow as tf

    class Counting(tf.distribute.ReductionToOneDevice):
        calls = 0

        def batch_reduce(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return super().batch_reduce(*args, **kwargs)

        def reduce(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return super().reduce(*args, **kwargs)

    return Counting()


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
    sys.stdout.flush()
    # Workers wait for each other at exit.
    os._exit(0)
