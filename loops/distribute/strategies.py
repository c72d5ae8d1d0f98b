"""The devices to train on, by name."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import tensorflow as tf

from ...optim.common.messages import did_you_mean
from .cluster import Cluster

_SPECS = ("auto", "one", "mirrored", "mirrored:2", "mirrored:cpu:2", "multiworker", "parameter_server", "tpu")
# What others call these strategies.
_ALIASES = {"cpu": "one", "default": "one", "gpu": "mirrored", "gpus": "mirrored", "ps": "parameter_server"}
_RESOLVERS = {"slurm": "SlurmClusterResolver", "kubernetes": "KubernetesClusterResolver"}
# The strategy of several devices that this process has, and the name it was requested by.
_made: list[tuple[str, tf.distribute.Strategy]] = []


def strategy(
    spec: str | tf.distribute.Strategy = "auto", *, timeout: float = 300.0
) -> tf.distribute.Strategy:
    """Returns the `tf.distribute.Strategy` that a name stands for.

    Make model and optimizer in its scope, `with loops.strategy(...).scope():`; steps and `train` then run on
    all its replicas. Call it at the start of a program: it makes devices and servers at once, which
    TensorFlow allows only before its first operation.

    Args:
        spec: one of these names, or a `tf.distribute.Strategy`, which is returned as it is.

            - "one": one device, TensorFlow's first GPU or else the CPU.
            - "mirrored", "mirrored:2": all GPUs of this machine, or so many.
            - "mirrored:cpu:2": so many logical devices that share the CPU, to try out what several GPUs do.
            - "multiworker": the workers that the environment variable TF_CONFIG lists, each with all its
              GPUs; "multiworker:slurm" and "multiworker:kubernetes" ask these for the list.
            - "parameter_server", with the same endings: a chief, workers and parameter servers, trained
              asynchronously. The chief gets the strategy. On the others the call serves until the process
              is ended.
            - "tpu", "tpu:NAME": the TPU of this machine, or of that name.
            - "auto": in a strategy's scope, that one; the cluster in TF_CONFIG, if there is one; all GPUs, if
              there are several; else one device.
        timeout: seconds to wait for the other tasks of a cluster.

    Raises:
        ValueError: an unknown name (the message suggests one), more devices than there are, a malformed
            TF_CONFIG, a port that is taken, or a second strategy of several devices in this process.
        TimeoutError: another task did not start in time; it is named.

    Example:
        >>> from gradloop import loops
        >>> loops.strategy("one").num_replicas_in_sync
        1
    """
    if isinstance(spec, tf.distribute.Strategy):
        return spec
    if not isinstance(spec, str):
        raise _unknown(spec)
    if spec == "auto":
        if tf.distribute.has_strategy():
            return tf.distribute.get_strategy()
        spec = _automatic()
    if spec == "one":
        return _one()
    for known, made in _made:
        if known == spec:
            return made
        raise ValueError(
            f"`spec` {spec!r}: this process has the strategy {known!r} already, and one process holds one. "
            "Use that, or start another process; for comparisons pass a `tf.distribute.Strategy` of your own."
        )
    made = _make(spec, timeout)
    _made.append((spec, made))
    return made


def _automatic() -> str:
    cluster = Cluster.from_environment()
    if cluster is not None and sum(map(len, cluster.tasks.values())) > 1:
        return "parameter_server" if "ps" in cluster.tasks else "multiworker"
    return "mirrored" if len(_gpus()) > 1 else "one"


def _one() -> tf.distribute.Strategy:
    current = tf.distribute.get_strategy()
    if current.num_replicas_in_sync > 1:
        raise ValueError(
            f"`spec` 'one' was asked for inside the scope of a strategy of {current.num_replicas_in_sync} "
            "replicas: ask outside of it."
        )
    return current


def _make(spec: str, timeout: float) -> tf.distribute.Strategy:
    name, _, rest = spec.partition(":")
    if name == "mirrored":
        kind, _, count = rest.rpartition(":")
        if kind == "cpu":
            return _mirrored_cpus(_count(spec, count))
        if not kind:
            return _mirrored_gpus(_count(spec, count) if count else None)
    elif name in ("multiworker", "parameter_server") and rest in ("", *_RESOLVERS):
        return (_multiworker if name == "multiworker" else _parameter_server)(spec, rest, timeout)
    elif name == "tpu":
        return _tpu(rest)
    raise _unknown(spec)


def _gpus() -> list[bool]:
    """The GPUs that TensorFlow may use, one entry each: whether it is one of several parts of a card."""
    cards = [tf.config.get_logical_device_configuration(gpu) for gpu in tf.config.get_visible_devices("GPU")]
    # No configuration: the card as a whole.
    return [len(parts or [None]) > 1 for parts in cards for _ in parts or [None]]


def _mirrored_gpus(count: int | None) -> tf.distribute.Strategy:
    there = _gpus()
    if len(there) < (count or 1):
        asked = f"asks for {count} GPUs" if count else "asks for GPUs"
        raise ValueError(
            f"`spec` {asked}, and TensorFlow sees {len(there) or 'none'} here: ask for at most that many, or "
            "try on the CPU with 'mirrored:cpu:2'."
        )
    used = there[:count]
    # NCCL, which is TensorFlow's default, cannot reduce between parts of one card.
    reduction = tf.distribute.ReductionToOneDevice() if any(used) else None
    devices = [f"/gpu:{index}" for index in range(len(used))]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def _mirrored_cpus(count: int) -> tf.distribute.Strategy:
    cpu = tf.config.list_physical_devices("CPU")[0]
    there = len(tf.config.get_logical_device_configuration(cpu) or [None])
    if there < count:
        try:
            devices = [tf.config.LogicalDeviceConfiguration()] * count
            tf.config.set_logical_device_configuration(cpu, devices)
        except RuntimeError:
            raise ValueError(
                f"`spec` asks for {count} logical CPU devices, and TensorFlow has started with {there}: call "
                "`loops.strategy` before anything that makes a tensor, first thing in the program."
            ) from None
    return tf.distribute.MirroredStrategy(
        [f"/cpu:{index}" for index in range(count)],
        # TensorFlow's default fails on four or more logical devices.
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def _multiworker(spec: str, source: str, timeout: float) -> tf.distribute.Strategy:
    cluster, resolver = _cluster(spec, source)
    if "ps" in cluster.tasks:
        raise ValueError(f"`spec` {spec!r}, but the cluster has parameter servers: use 'parameter_server'.")
    with cluster.listening():
        cluster.wait_for_others(timeout)
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _parameter_server(spec: str, source: str, timeout: float) -> tf.distribute.Strategy:
    cluster, resolver = _cluster(spec, source)
    missing = [kind for kind in ("chief", "worker", "ps") if kind not in cluster.tasks]
    if missing:
        raise ValueError(
            f"`spec` {spec!r}, but the cluster has no {missing[0]!r}: it takes a chief, workers and "
            "parameter servers."
        )
    if cluster.kind != "chief":
        _serve(cluster, resolver)
    with cluster.listening():
        cluster.wait_for_others(timeout)
    return tf.distribute.ParameterServerStrategy(resolver)


def _serve(cluster: Cluster, resolver: tf.distribute.cluster_resolver.ClusterResolver) -> NoReturn:
    with cluster.listening():
        pass
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=cluster.kind, task_index=cluster.index, protocol="grpc"
    )
    while server:  # `server.join()` would let no signal through
        signal.pause()
    sys.exit(0)


def _tpu(name: str) -> tf.distribute.Strategy:
    named = name or os.environ.get("TPU_NAME", "")
    if not named and not tf.config.list_physical_devices("TPU"):
        raise ValueError(
            "`spec` 'tpu', and TensorFlow sees none here: name one, 'tpu:NAME', or set TPU_NAME."
        )
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(named or "local")
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


def _cluster(spec: str, source: str) -> tuple[Cluster, tf.distribute.cluster_resolver.ClusterResolver]:
    """The cluster that this process belongs to, which it joins, and TensorFlow's resolver for it."""
    if source:
        resolver = getattr(tf.distribute.cluster_resolver, _RESOLVERS[source])()
        cluster = Cluster.from_resolver(resolver)
    else:
        found = Cluster.from_environment()
        if found is None:
            raise ValueError(
                f"`spec` {spec!r} needs a cluster, and the environment variable TF_CONFIG lists none: start "
                "the program with scripts/launch.py on this machine, or set TF_CONFIG on each."
            )
        cluster, resolver = found, tf.distribute.cluster_resolver.TFConfigClusterResolver()
    cluster.join()
    return cluster, resolver


def _count(spec: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"`spec` {spec!r} ends in {text!r} where a number of devices is wanted, 1 or more.")
    return int(text)


def _unknown(spec: object) -> ValueError:
    options = ", ".join(map(repr, _SPECS))
    meant = _ALIASES.get(str(spec).lower(), spec)
    return ValueError(f"`spec` {spec!r} is no strategy: there are {options}.{did_you_mean(meant, _SPECS)}")
