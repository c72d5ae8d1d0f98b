"""The contenders by name: which file holds each, which interpreter runs it, what it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

BASE = "gradloop"  # that all others are compared with
# By group: modules that must be importable in its interpreter, and environment variables of its workers.
NEEDS = {
    "tensorflow": ("tensorflow", "keras"),
    "orbit": ("tensorflow", "tf_keras", "orbit"),
    "torch": ("torch",),
    "jax": ("jax",),
}
ENVIRONMENT = {"orbit": {"TF_USE_LEGACY_KERAS": "1"}}


@dataclasses.dataclass(frozen=True)
class Peer:
    """One contender."""

    name: str  # as on the command line and in the tables
    group: str  # which `--python GROUP=PATH` names its interpreter
    module: str  # of this package, which builds it
    about: str  # one line for the help text

    @property
    def needs(self) -> tuple[str, ...]:
        """Modules that must be importable in its interpreter."""
        return NEEDS[self.group] + (("gradloop.loops",) if self.module == "bench.ours" else ())


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(BASE, "tensorflow", "bench.ours",
             "loops.train with accuracy, progress bar, TensorBoard scalars and a Keras callback"),
        Peer("gradloop-plain", "tensorflow", "bench.ours", "loops.train with none of these"),
        Peer("fit", "tensorflow", "bench.keras_fit", "model.fit as it comes"),
        Peer("fit-tuned", "tensorflow", "bench.keras_fit",
             "model.fit, steps_per_execution=50, the better of XLA on and off"),
        Peer("per-step", "tensorflow", "bench.tensorflow_loops",
             "a tf.function per step, a Python for over tf.data"),
        Peer("bare", "tensorflow", "bench.tensorflow_loops",
             "the same TensorFlow ops by hand in one device loop, data as tensors"),
        Peer("orbit", "orbit", "bench.orbit_trainer", "Orbit's StandardTrainer, 50 steps a loop, tf.data"),
        Peer("torch", "torch", "bench.torch_loops", "PyTorch eager, data as tensors"),
        Peer("torch-compile", "torch", "bench.torch_loops", "the same with torch.compile on the network"),
        Peer("jax", "jax", "bench.jax_scan", "JAX, lax.scan over the block"),
    )
}  # fmt: skip
INSTALL = {
    "tensorflow": "pip install -e .",
    "torch": "pip install torch numpy",
    "jax": "pip install jax numpy",
    "orbit": "pip install tensorflow tf-keras && pip install --no-deps tf-models-official",
}


def choose(names: Iterable[str] | None) -> list[Peer]:
    """The contenders of these names, or all, each once and in the order of `PEERS`."""
    wanted = PEERS.keys() if names is None else set(names)
    return [peer for peer in PEERS.values() if peer.name in wanted]


def interpreters(settings: Iterable[str], default: str) -> dict[str, str]:
    """The interpreter of each group, from `GROUP=PATH` settings and the default of the others."""
    chosen = dict.fromkeys(NEEDS, default)
    for setting in settings:
        group, equals, path = setting.partition("=")
        if not equals or not path or group not in NEEDS:
            raise ValueError(
                f"`python` got {setting!r}: wanted GROUP=PATH with GROUP one of {', '.join(NEEDS)}"
            )
        chosen[group] = path
    return chosen
