"""Checks of inputs and labels, and of the time that a step waits for them."""

from __future__ import annotations

import statistics

import numpy as np

from ...optim.common.messages import first_few
from .evidence import Evidence
from .report import NotApplicable, Verdict

_RANDOM_ORDERS = 200  # permutations of the labels, to estimate what chance gives


def finite_inputs(evidence: Evidence) -> Verdict:
    """NaN and infinities in the inputs."""
    found = []
    for name, values in evidence.inputs():
        if values.dtype.kind == "f" and (bad := int((~np.isfinite(values)).sum())):
            found.append(f"`{name}` holds {bad:,} values of {values.size:,} that are NaN or infinite")
    if found and evidence.step.on_nonfinite == "ignore" and all(map(np.isfinite, evidence.first_pass.losses)):
        return f"{found[0]}, which the network fills: the loss is finite"
    advice = "find where they come from, and fill or drop them before they are batched"
    return [(observation, advice) for observation in found] or "all inputs are finite"


def changing_inputs(evidence: Evidence) -> Verdict:
    """Inputs that are the same everywhere, or for every example."""
    if evidence.sample.examples < 2:
        raise NotApplicable("there is one example alone")
    arrays, found = list(evidence.inputs()), []
    for name, values in arrays:
        if len(arrays) > 1 and (values.dtype.kind != "f" or "mask" in name):
            continue  # a mask or the like, beside other inputs
        if values.size > 1 and bool((values == values.flat[0]).all()):
            found.append(f"`{name}` is {values.flat[0]:g} everywhere in {len(values):,} examples")
        elif len(values) > 1 and values.shape[1] > 1 and bool((values == values[0]).all()):
            found.append(f"`{name}` is the same for all of {len(values):,} examples")
    advice = "look at how the data is read, cast and scaled: a network learns nothing from this"
    return [(observation, advice) for observation in found] or "inputs differ between examples"


def input_range(evidence: Evidence) -> Verdict:
    """Pixels from 0 to 255 in a network that has nothing to scale them."""
    entry = evidence.first_pass.first_layer_input
    if entry is None:
        raise NotApplicable("no layer with a kernel takes the inputs")
    values = f"values from {entry.lowest:.4g} to {entry.highest:.4g}"
    observation = f"{values} reach the first layer with weights, {entry.layer!r}"
    if entry.lowest >= 0 and 100 < entry.highest <= 255:
        advice = "divide them by 255 where they are read, or begin the network with "
        advice += "`keras.layers.Rescaling(1 / 255)` or what its pretrained weights expect"
        return [(f"{observation}: 0 to 255, and nothing in the network scales them", advice)]
    return observation


def label_order(evidence: Evidence) -> Verdict:
    """Data that is not shuffled: each batch holds few of the classes."""
    labels = evidence.labels
    batches = [batch for batch in labels.batches if len(batch) > 1]
    if len(batches) < 2:
        raise NotApplicable("there is one batch alone, in which the order does not matter")
    within, overall = _same_class_share(batches), _same_class_share([np.concatenate(batches)])
    if overall == 1:
        raise NotApplicable("there is one class alone (see `missing_classes`)")
    score = (within - overall) / (1 - overall)
    observation = (
        f"two examples of a batch are of one class in {within:.0%} of pairs, any two in {overall:.0%}"
    )
    if score > 0.5 and within > _largest_share_by_chance(batches):
        advice = "shuffle the examples, `Batches(shuffle=True)`, or `dataset.shuffle(buffer)` before `batch` "
        advice += "with a buffer of more examples than the longest run of one class"
        return [(f"labels come in order: {observation}", advice)]
    return observation


def _same_class_share(batches: list[np.ndarray]) -> float:
    """The share of pairs within batches that are of one class."""
    counts = [np.bincount(batch) for batch in batches]
    pairs = sum(len(batch) * (len(batch) - 1) for batch in batches)
    return float(sum((count * (count - 1)).sum() for count in counts) / pairs)


def _largest_share_by_chance(batches: list[np.ndarray]) -> float:
    """The largest `_same_class_share` of `_RANDOM_ORDERS` random orders."""
    random, labels = np.random.RandomState(0), np.concatenate(batches)
    ends = np.cumsum([len(batch) for batch in batches])[:-1]
    return max(_same_class_share(np.split(random.permutation(labels), ends)) for _ in range(_RANDOM_ORDERS))


def missing_classes(evidence: Evidence) -> Verdict:
    """Classes that have an output and no example."""
    labels = evidence.labels
    counts, examples = labels.counts, sum(map(len, labels.batches))
    missing = [str(number) for number in np.flatnonzero(counts == 0)]
    if missing and not labels.complete and examples < 10 * labels.classes:
        raise NotApplicable(f"{examples} examples are too few to tell for {labels.classes} classes")
    if not missing:
        return f"all {labels.classes} classes are among {labels.description}"
    names = first_few(missing, 10)
    advice = "look at how labels are made and numbered, or give the network fewer outputs"
    if not labels.complete:
        shuffle = "shuffle the data if it is in order (`dataset.shuffle(buffer)` before `batch`)"
        advice = f"{shuffle}; otherwise {advice}"
    there = f"{labels.classes - len(missing)} of {labels.classes} classes"
    return [(f"{labels.description} are of {there}: none is of {names}", advice)]


def class_balance(evidence: Evidence) -> Verdict:
    """Some classes with ten times the examples of others."""
    labels = evidence.labels
    if evidence.weighted:
        raise NotApplicable("examples have weights")
    counts = labels.counts
    there = counts[counts > 0]
    largest, smallest = int(there.max()), int(there.min())
    if len(there) < 2 or sum(map(len, labels.batches)) < 20 * labels.classes:
        raise NotApplicable(f"{labels.description} are too few to tell for {labels.classes} classes")
    observation = (
        f"of {labels.description}, {largest:,} are of class {counts.argmax()} and {smallest:,} of class "
    )
    observation += str(np.flatnonzero(counts == smallest)[-1])
    if largest >= 10 * smallest:
        advice = "weigh the examples (`sample_weight`), draw rare classes more often, or look at metrics "
        always = f"{largest / counts.sum():.0%} for an answer that is always the same"
        advice += f"other than accuracy, which is {always}"
        return [(observation, advice)]
    return observation


def waiting_for_data(evidence: Evidence) -> Verdict:
    """The share of a step's time that is spent waiting for its batch."""
    if evidence.sample.read_first is None:
        raise NotApplicable("a `Batches` is read on the device, within the step")
    if len(evidence.trial.seconds_in_memory) < 3:
        raise NotApplicable("too few steps ran to be timed")
    # The first quartile, as other programs make some steps slower.
    with_data, in_memory = (
        statistics.quantiles(times)[0]
        for times in (evidence.trial.seconds_with_data, evidence.trial.seconds_in_memory)
    )
    share = max(0.0, 1 - in_memory / with_data)
    times = f"{with_data * 1e3:.3g} ms with its data and {in_memory * 1e3:.3g} ms on a batch in memory"
    observation = f"a step takes {times}: {share:.0%} is waiting"
    if share > 1 / 3 and with_data - in_memory > 2e-3:
        advice = "end the dataset with `.prefetch(tf.data.AUTOTUNE)`, `map` with "
        advice += "`num_parallel_calls=tf.data.AUTOTUNE`, `cache` what is decoded, or use a `loops.Batches`"
        return [(observation, advice)]
    return observation
