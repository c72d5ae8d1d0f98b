"""Checks of gradients, dead units, and the moving statistics of normalization layers."""

from __future__ import annotations

import keras

from ...optim import variable_infos
from ...optim.common.messages import first_few
from ...optim.naming.stable_names import tree_of
from ..distribute.scope import replicas_of
from ..step.batch_norm import frozen_norms
from .evidence import Evidence
from .report import NotApplicable, Verdict


def no_gradient(evidence: Evidence) -> Verdict:
    """Variables that should train and get no gradient, or one of zeros before and after training steps."""
    first, later = evidence.first_pass.gradients, (
        None if evidence.second_pass is None else evidence.second_pass.gradients
    )
    if not first:
        raise NotApplicable("there are no gradients, as the loss could not be computed (see `step`)")
    unconnected = [name for name, size in first.items() if size is None]
    zeros = [
        name for name, size in first.items() if size == 0.0 and (later is None or later.get(name) == 0.0)
    ]
    # Where a loss is a difference of outputs, as for a Wasserstein critic, the last bias has no effect on it.
    no_effect = [name for name in zeros if name.endswith("bias") and first.get(f"{name[:-4]}kernel")]
    zeros = [name for name in zeros if name not in no_effect]
    found = []
    if unconnected:
        advice = "look for a layer that the model does not call, an output that the loss leaves out, or an "
        advice += "operation without a gradient (`argmax`, `round`, NumPy); or do not train it: `variables=`"
        found.append((f"the loss does not depend on {first_few(unconnected)}", advice))
    if zeros:
        advice = "look for units that are dead or saturated behind it, and for outputs that are multiplied "
        advice += "by 0"
        found.append((f"every gradient of {first_few(zeros)} is 0", advice))
    but = f", but for {first_few(no_effect)}, which the loss does not depend on" if no_effect else ""
    return found or f"all {len(first)} variables get a gradient{but}"


def dead_units(evidence: Evidence) -> Verdict:
    """Layers in which more than half of the units give 0 for every example."""
    if not evidence.first_pass.active_units:
        raise NotApplicable("no layer has an activation of its own")
    share = {name: 1 - float(alive.mean()) for name, alive in evidence.first_pass.active_units.items()}
    dead = [f"{value:.0%} of the units of {name!r}" for name, value in share.items() if value > 0.5]
    if dead:
        examples = len(evidence.outputs) if evidence.first_pass.outputs else 0
        advice = "look at the scale of the inputs and at biases and weights far below 0; a lower rate keeps "
        advice += "units from dying, a `leaky_relu` lets them come back"
        return [(f"{first_few(dead)} are 0 for all of {examples} examples", advice)]
    worst = max(share, key=lambda name: share[name])
    return f"at most {share[worst]:.0%} of the units of a layer are always 0 ({worst!r})"


def frozen_state(evidence: Evidence) -> Verdict:
    """State of frozen layers, or of a BatchNorm between frozen layers, that changes during training."""
    if evidence.trial.error is not None:
        raise NotApplicable("the steps failed (see `step`)")
    model, trained = evidence.step.model, {id(variable) for variable in evidence.step.variables}
    changed = evidence.trial.changed_state
    weights: dict[str, list[keras.Variable]] = {}
    moved: dict[str, None] = {}
    layers = {node.path: node.layer for node in tree_of(model).nodes}
    for info in variable_infos(model):
        path = info.name.rpartition("/")[0]
        weights.setdefault(path, []).append(info.variable)
        if info.name in changed and id(info.variable) not in trained and "float" in info.variable.dtype:
            moved[path] = None
    found: dict[str, str] = {}
    for path in moved:
        layer = layers.get(path)
        trainable = [variable for variable in weights[path] if _created_trainable(variable)]
        trains = [id(variable) in trained for variable in trainable]
        frozen = layer is not None and not layer.trainable or bool(trainable) and not any(trains)
        if frozen:
            found[path] = f"{path!r} is frozen, and its state moves"
        elif isinstance(layer, keras.layers.BatchNormalization) and trainable and not all(trains):
            found[path] = f"{path!r} is frozen in part, and its moving statistics move"
    between = "trains between layers that are frozen, and its moving statistics move"
    for path in _norms_between_frozen(evidence, moved):
        found.setdefault(path, f"{path!r} {between}")
    if found:
        advice = "freeze all variables of the layer, with those around it (a filter such as "
        advice += "`optim.layer_type(keras.layers.BatchNormalization)`), or train them all; a layer of your "
        advice += "own must heed `self.trainable`"
        return [(first_few(list(found.values()), 3), advice)]
    if not moved:
        return "no state of layers moves"
    return f"{len(moved)} layers have a state that moves, none of them frozen"


def _created_trainable(variable: keras.Variable) -> bool:
    return bool(getattr(variable.value, "trainable", variable.trainable))


def _norms_between_frozen(evidence: Evidence, moved: dict[str, None]) -> list[str]:
    """Paths of BatchNorms whose state moves, between two kernels that do not train."""
    trained = {id(variable) for variable in evidence.step.variables}
    kernels: list[tuple[str, bool]] = []  # in the model's order: the kernels, and the norms among them
    for info in variable_infos(evidence.step.model):
        norm = isinstance(info.layer, keras.layers.BatchNormalization)
        path = info.name.rpartition("/")[0]
        if info.variable.ndim > 1 and not norm:
            kernels.append(("", id(info.variable) in trained))
        elif norm and path in moved and (not kernels or kernels[-1][0] != path):
            kernels.append((path, False))
    found = []
    for index, (path, _) in enumerate(kernels):
        before = [trains for name, trains in kernels[:index] if not name]
        after = [trains for name, trains in kernels[index + 1 :] if not name]
        if path and before and after and not before[-1] and not after[0]:
            found.append(path)
    return found


def batch_for_norms(evidence: Evidence) -> Verdict:
    """Batches too small for the statistics of a BatchNorm that trains."""
    step = evidence.step
    frozen = {id(layer) for layer in frozen_norms(step.model, step.variables)}
    infos = variable_infos(step.model)
    norms = {
        id(info.layer): info.layer
        for info in infos
        if isinstance(info.layer, keras.layers.BatchNormalization) and id(info.layer) not in frozen
    }
    if not norms:
        raise NotApplicable("no BatchNormalization trains")
    replicas = replicas_of(step.strategy)
    per_replica = any(not layer.synchronized for layer in norms.values())
    examples = evidence.sample.batch_size // (replicas if per_replica else 1)
    each = " on each replica" if replicas > 1 and per_replica else ""
    observation = (
        f"{len(norms)} BatchNormalization layers take their statistics from {examples} examples{each}"
    )
    if examples < 8:
        advice = "use larger batches (8 is few, 32 is usual), `synchronized=True` on replicas, freeze them, "
        advice += "or take GroupNormalization or LayerNormalization"
        return [(observation, advice)]
    return observation
