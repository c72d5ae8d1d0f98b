"""Checks of the outputs of the network and of its loss, before the first update."""

from __future__ import annotations

import math

import keras
import numpy as np

from ...optim.common.types import Array
from .evidence import BINARY, CATEGORICAL, Evidence
from .report import NotApplicable, Verdict

_REGRESSION = (
    keras.losses.MeanSquaredError,
    keras.losses.MeanAbsoluteError,
    keras.losses.MeanSquaredLogarithmicError,
    keras.losses.MeanAbsolutePercentageError,
    keras.losses.Huber,
    keras.losses.LogCosh,
    keras.losses.Poisson,
)
# The lowest and highest output of the last operation of a network.
_OUTPUT_RANGES = {
    "Sigmoid": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Relu": (0.0, math.inf),
    "Softplus": (0.0, math.inf),
}


def starting_loss(evidence: Evidence) -> Verdict:
    """A loss far above that of random guessing."""
    losses = evidence.first_pass.losses
    if not losses:
        raise NotApplicable("the loss could not be computed (see `step`)")
    value = float(np.mean(losses))
    if not math.isfinite(value):
        return [(f"the loss is {value:g} before any update", "look at the inputs, the weights and the loss")]
    loss = evidence.loss
    if isinstance(loss, CATEGORICAL[:2]):
        classes = evidence.outputs.shape[-1]
        chance, of = math.log(max(classes, 2)), f"ln {classes}"
    elif type(loss) is BINARY[0]:
        chance, of = math.log(2), "ln 2"
    else:
        raise NotApplicable(
            f"the loss starts at {value:.4g}; what chance gives is not known for {loss.name!r}"
        )
    if loss.reduction not in ("sum_over_batch_size", "mean") or evidence.weighted:
        raise NotApplicable(f"the loss starts at {value:.4g}, but it is weighted or summed")
    observation = f"the loss starts at {value:.3g}, and {of} = {chance:.3g} is what chance gives"
    # Where the last layer reads normalised features, as in a transformer, Keras' initialisation gives scores
    # of a variance of up to 2: with 2 to 10 classes, up to 20% of sound networks start 1.0 above chance, and
    # about 1% start 2.0 above (by simulation, for examples that the network cannot tell apart yet).
    if value > chance + max(2.0, 0.5 * chance):
        advice = "the network is certain of wrong answers: look at the scale of its inputs, at how its last "
        advice += "layer is initialised, and at whether outputs and loss fit"
        return [(observation, advice)]
    return observation


def outputs_and_loss(evidence: Evidence) -> Verdict:
    """Outputs of another kind than the loss takes, such as probabilities for logits."""
    loss, outputs, last = evidence.loss, evidence.outputs, evidence.last_operation
    if not np.isfinite(outputs).all():
        raise NotApplicable("some outputs are NaN or infinite (see `starting_loss`)")
    if isinstance(loss, CATEGORICAL):
        return _check_categorical(loss, outputs, last)
    if isinstance(loss, BINARY):
        return _check_binary(loss, outputs, last, evidence.targets)
    if isinstance(loss, _REGRESSION):
        return _check_regression(outputs, last, evidence.targets)
    raise NotApplicable(f"what outputs the loss {loss.name!r} takes is not known")


def _check_categorical(loss: keras.losses.Loss, outputs: Array, last: str) -> Verdict:
    sums = outputs.sum(-1)
    adds_up = bool((outputs >= 0).all() and (np.abs(sums - 1) < 0.01).all())
    observation = f"outputs from {outputs.min():.3g} to {outputs.max():.3g}"
    observation += f" that add up to {sums.min():.3g} to {sums.max():.3g}"
    if outputs.shape[-1] == 1:
        fault = f"the network has one output, and the loss {loss.name!r} one output for each class"
        advice = "use 'binary_crossentropy' for a yes or no, or as many outputs as there are classes"
    elif last == "Sigmoid":
        fault = f"the network ends in a sigmoid ({observation}), and the loss {loss.name!r} is about one of "
        fault += "several classes"
        advice = "end the network in a softmax, or use 'binary_crossentropy' if several can be right at once"
    elif loss.from_logits and (last == "Softmax" or adds_up):
        fault = f"the network gives probabilities ({observation}), and the loss has `from_logits=True`"
        advice = "leave `from_logits` out, or the softmax of the last layer"
    elif not loss.from_logits and not adds_up:
        fault = f"the network gives logits ({observation}), and the loss {loss.name!r} takes probabilities"
        advice = "give the loss `from_logits=True`, or end the network in a softmax"
    else:
        return _matching(loss)
    return [(fault, advice)]


def _matching(loss: keras.losses.Loss) -> str:
    return f"{'logits' if loss.from_logits else 'probabilities'}, as the loss takes them"


def _check_binary(loss: keras.losses.Loss, outputs: Array, last: str, targets: Array) -> Verdict:
    outputs = outputs.reshape(len(outputs), -1) if outputs.ndim == 1 else outputs
    width, inside = outputs.shape[-1], bool(((outputs >= 0) & (outputs <= 1)).all())
    adds_up = width > 1 and inside and bool((np.abs(outputs.sum(-1) - 1) < 0.01).all())
    observation = f"outputs from {outputs.min():.3g} to {outputs.max():.3g}"
    found = []
    asks = f"and the loss {loss.name!r} asks a yes or no of each"
    if last == "Softmax" or (adds_up and last != "Sigmoid"):
        advice = "use a sigmoid: the softmax of one output is always 1"
        if width > 1:
            advice = "use 'categorical_crossentropy' for one of several classes, or a sigmoid for several "
            advice += "answers"
        fault = f"the network ends in a softmax over {width} output{'s' * (width > 1)}, {asks}"
        found.append((fault, advice))
    elif loss.from_logits and last == "Sigmoid":
        fault = f"the network ends in a sigmoid ({observation}), and the loss has `from_logits=True`"
        found.append((fault, "leave `from_logits` out, or the sigmoid of the last layer"))
    elif not loss.from_logits and not inside:
        fault = f"the network gives logits ({observation}), and the loss {loss.name!r} takes probabilities"
        found.append((fault, "give the loss `from_logits=True`, or end the network in a sigmoid"))
    if targets.min() < 0 or targets.max() > 1:
        there = f"targets are from {targets.min():g} to {targets.max():g}"
        advice = "scale them, `y / 255` for masks of 0 and 255 or `(y + 1) / 2` for -1 and 1"
        found.append((f"{there}, and the loss {loss.name!r} takes 0 to 1", advice))
    one_hot = width > 1 and targets.shape == outputs.shape and len(targets) >= 8
    if one_hot and set(np.unique(targets)) <= {0, 1} and bool((targets.sum(-1) == 1).all()) and not found:
        fault = f"each of {len(targets)} examples is of one of {width} classes (one-hot), {asks}"
        advice = "use 'categorical_crossentropy' with a softmax; leave it if an example can have several or "
        advice += "none"
        found.append((fault, advice))
    return found or _matching(loss)


def _check_regression(outputs: Array, last: str, targets: Array) -> Verdict:
    lowest, highest = float(targets.min()), float(targets.max())
    observation = f"targets are from {lowest:.4g} to {highest:.4g}"
    if last == "Softmax" and outputs.shape[-1] == 1:
        return [("the network ends in a softmax over one output, which is always 1", "leave the softmax out")]
    low, high = _OUTPUT_RANGES.get(last, (-math.inf, math.inf))
    if lowest < low - 1e-6 or highest > high + 1e-6:
        reach = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        fault = f"{observation}, and the network ends in a {last.lower()}, whose outputs are {reach}"
        return [(fault, "leave that activation out, or scale the targets")]
    return f"{observation}, within what the network can give"
