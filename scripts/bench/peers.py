"""The contenders by name: which file holds each, which interpreter runs it, what it needs."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping

BASE = "gradloop"
"""The contender that all others are compared with."""


@dataclasses.dataclass(frozen=True)
class Peer:
    """One contender.

    Args:
        name: as on the command line and in the tables.
        group: which `--python GROUP=PATH` names its interpreter.
        module: the module of this package that builds it.
        needs: modules that must be importable in its interpreter.
        about: one line for the help text.
        default: whether it runs when `--only` is not given.
        environment: environment variables its worker needs.
    """

    name: str
    group: str
    module: str
    needs: tuple[str, ...]
    about: str
    default: bool = True
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


_TENSORFLOW = ("tensorflow", "keras")
_ORBIT = ("tensorflow", "tf_keras", "orbit")
_LEGACY = {"TF_USE_LEGACY_KERAS": "1"}

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            BASE,
            "tensorflow",
            "bench.ours",
            (*_TENSORFLOW, "gradloop.loops"),
            "loops.train with accuracy, progress bar, TensorBoard scalars and a Keras callback",
        ),
        Peer(
            "gradloop-plain",
            "tensorflow",
            "bench.ours",
            (*_TENSORFLOW, "gradloop.loops"),
            "loops.train with none of these",
        ),
        Peer(
            "gradloop-hook",
            "tensorflow",
            "bench.ours",
            (*_TENSORFLOW, "gradloop.loops"),
            "everything and a callback with a batch hook: a call per step (only when asked for)",
            default=False,
        ),
        Peer(
            "gradloop-twin",
            "tensorflow",
            "bench.ours",
            (*_TENSORFLOW, "gradloop.loops"),
            "gradloop once more: how far apart two equal processes are (only when asked for)",
            default=False,
        ),
        Peer("fit", "tensorflow", "bench.keras_fit", _TENSORFLOW, "model.fit as it comes"),
        Peer(
            "fit-tuned",
            "tensorflow",
            "bench.keras_fit",
            _TENSORFLOW,
            "model.fit, steps_per_execution=50, the better of XLA on and off",
        ),
        Peer(
            "per-step",
            "tensorflow",
            "bench.tensorflow_loops",
            _TENSORFLOW,
            "a tf.function per step, a Python for over tf.data",
        ),
        Peer(
            "bare",
            "tensorflow",
            "bench.tensorflow_loops",
            _TENSORFLOW,
            "the same TensorFlow ops by hand in one device loop, data as tensors",
        ),
        Peer(
            "orbit",
            "orbit",
            "bench.orbit_trainer",
            _ORBIT,
            "Orbit's StandardTrainer, 50 steps a loop, tf.data",
            environment=_LEGACY,
        ),
        Peer(
            "orbit-epoch",
            "orbit",
            "bench.orbit_trainer",
            _ORBIT,
            "Orbit's StandardTrainer, the whole block in one loop (only when asked for)",
            default=False,
            environment=_LEGACY,
        ),
        Peer("torch", "torch", "bench.torch_loops", ("torch",), "PyTorch eager, data as tensors"),
        Peer(
            "torch-compile",
            "torch",
            "bench.torch_loops",
            ("torch",),
            "the same with torch.compile on the network",
        ),
        Peer("jax", "jax", "bench.jax_scan", ("jax",), "JAX, lax.scan over the block"),
    )
}
GROUPS = tuple(dict.fromkeys(peer.group for peer in PEERS.values()))
INSTALL = {
    "tensorflow": "pip install -e .",
    "torch": "pip install torch numpy",
    "jax": "pip install jax numpy",
    "orbit": "pip install tensorflow tf-keras && pip install --no-deps tf-models-official",
}


def choose(names: Iterable[str] | None) -> list[Peer]:
    """The contenders to run, gradloop first and each once.

    Args:
        names: contenders by name, or None for the usual ones.

    Returns:
        The peers in the order of `PEERS`.

    Raises:
        ValueError: if a name is unknown; suggests the nearest.

    Example:
        >>> [peer.name for peer in choose(["bare", "gradloop"])]
        ['gradloop', 'bare']
    """
    if names is None:
        return [peer for peer in PEERS.values() if peer.default]
    wanted = list(names)
    for name in wanted:
        if name not in PEERS:
            near = difflib.get_close_matches(name, PEERS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"`only` got {name!r}: {hint}Known: {', '.join(PEERS)}")
    return [peer for peer in PEERS.values() if peer.name in wanted]


def interpreters(settings: Iterable[str], default: str) -> dict[str, str]:
    """Reads `GROUP=PATH` settings.

    Args:
        settings: strings such as `"torch=/opt/torch/bin/python"`.
        default: the interpreter of groups that are not set.

    Returns:
        The interpreter of each group.

    Raises:
        ValueError: if a setting has no `=` or names an unknown group.

    Example:
        >>> interpreters(["jax=/j/python"], default="/d/python")["jax"]
        '/j/python'
    """
    chosen = dict.fromkeys(GROUPS, default)
    for setting in settings:
        group, equals, path = setting.partition("=")
        if not equals or not path or group not in GROUPS:
            raise ValueError(
                f"`python` got {setting!r}: wanted GROUP=PATH with GROUP one of {', '.join(GROUPS)}"
            )
        chosen[group] = path
    return chosen
