"""`preflight`: the list of checks, and the order in which their inputs are computed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

from ...optim.common.messages import short_repr
from ...optim.learning_rate.lr_finder import restored_state
from ..data.batches import Data
from ..device.batch_size import batch_size_of
from ..distribute.scope import has_other_workers, is_asynchronous, replicas_of, scope_of
from ..step.train_step import TrainStep
from ..support.random_state import preserve_random_state
from ..support.scalars import recording_disabled
from . import data_checks, output_checks, training_checks, weight_checks
from .evidence import Evidence
from .probe import Probe, last_operation
from .rates import trained_groups
from .report import Finding, NotApplicable, Report, Verdict
from .sample import sample_from
from .trial import overfit_few_examples, private_step, try_steps

_OVERFIT_EXAMPLES = 8
CHECKS: dict[str, Callable[[Evidence], Verdict]] = {
    "step": training_checks.step_runs,
    "finite_inputs": data_checks.finite_inputs,
    "changing_inputs": data_checks.changing_inputs,
    "input_range": data_checks.input_range,
    "label_order": data_checks.label_order,
    "missing_classes": data_checks.missing_classes,
    "class_balance": data_checks.class_balance,
    "outputs_and_loss": output_checks.outputs_and_loss,
    "starting_loss": output_checks.starting_loss,
    "no_gradient": weight_checks.no_gradient,
    "dead_units": weight_checks.dead_units,
    "frozen_state": weight_checks.frozen_state,
    "batch_for_norms": weight_checks.batch_for_norms,
    "update_ratio": training_checks.update_ratio,
    "learned_by_heart": training_checks.overfits_few_examples,
    "waiting_for_data": data_checks.waiting_for_data,
}


def preflight(step: TrainStep, data: Data) -> Report:
    """Looks for common mistakes in a step and its data before a long run, in seconds; prints what it finds.

        read the first batches
        forward and backward pass, no update       # outputs, loss, gradients, dead units
        training steps on the data                 # size of updates; time spent waiting for data
        training steps on a few examples           # can the network overfit them?
        restore everything; then run the checks

    The checks; a finding has the name of its check:

    - `step`: a step raises an error;
    - `finite_inputs`, `changing_inputs`: NaN or infinities; inputs that are the same everywhere;
    - `input_range`: 0 to 255 reaches the first layer with weights;
    - `label_order`, `missing_classes`, `class_balance`: data that is not shuffled, outputs without examples,
      classes with ten times the examples of others;
    - `outputs_and_loss`: softmax or sigmoid where the loss wants logits, the reverse, or another loss;
      targets that the outputs cannot reach;
    - `starting_loss`: far above what chance gives, the logarithm of the number of classes;
    - `no_gradient`, `dead_units`: variables that cannot train; layers with more than half of their units
      at 0;
    - `frozen_state`, `batch_for_norms`: moving statistics of what is frozen; fewer than 8 examples for them;
    - `update_ratio`: groups that a step changes by less than 1e-4 of their weights (what a plan slows may
      change by as much less) or by more than 1e-2, unless the loss falls and it is less than 1e-1; at the
      highest rate of a schedule, weights that are zero aside;
    - `learned_by_heart`: the network cannot overfit 8 examples: their loss does not fall by 15%, neither
      with the step's optimizer nor with Adam, and at least half of the weights train;
    - `waiting_for_data`: more than a third of a step, and 2 ms.

    Afterwards everything is bit for bit as before, also if an error or Ctrl-C ended it: weights, the
    optimizer, metrics and seeds in the model; the data, its shuffles and its layers; the random numbers of
    Python, NumPy, TensorFlow and Keras; the step's counts and traces. (An optimizer that is not built is
    built, as the first step does. What a Python function in the data keeps for itself cannot be set back;
    where TensorFlow cannot copy a dataset that shuffles, the report says so.)

    Args:
        step: the step that will train.
        data: the `Batches` or dataset that it will train on, which may be endless. At most 20 batches of a
            pass are read to examine, and about 70 more to train on.

    Returns:
        What was found, what was fine and what did not apply: `report.findings`, each with `.name` and
        `.message`, `report.ok`, and `print(report)`.

    Raises:
        TypeError: a `step` or `data` of another type.
        ValueError: empty data, or a step on several workers or parameter servers.

    Example:
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> step = loops.TrainStep(model, "sparse_categorical_crossentropy", "adam")
        >>> x, y = np.random.RandomState(0).rand(60, 4), np.arange(60) % 3
        >>> report = loops.preflight(step, loops.Batches(x, y, batch_size=10))  # doctest: +ELLIPSIS
        Preflight: ...
        >>> report.ok, report.findings[0].name
        (False, 'outputs_and_loss')
        >>> print(report.findings[0].message)  # doctest: +ELLIPSIS
        the network gives logits (outputs from ...: give the loss `from_logits=True`, or end ...

    Reference: Karpathy 2019, "A recipe for training neural networks".
    """
    if not isinstance(step, TrainStep):
        raise TypeError(
            f"`step` must be a `loops.TrainStep`, got {short_repr(step)}: make one of the model, the loss "
            "and the optimizer, `loops.TrainStep(model, loss, optimizer)`."
        )
    if has_other_workers(step.strategy) or is_asynchronous(step.strategy):
        raise ValueError(
            f"`step` belongs to a {type(step.strategy).__name__}, on several workers: run the preflight in "
            "one process, with a step made outside of its scope, before the workers start."
        )
    start = time.perf_counter()
    report = run_checks(gather_evidence(step, data), start)
    print(report)
    return report


def run_checks(evidence: Evidence, start: float) -> Report:
    """Runs all checks on the evidence; the seconds of the report count from `start`."""
    findings: list[Finding] = []
    passed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name, check in CHECKS.items():
        try:
            verdict = check(evidence)
        except NotApplicable as reason:
            left_out[name] = str(reason)
            continue
        if isinstance(verdict, str):
            passed[name] = verdict
        else:
            findings += [Finding(name, observation, advice) for observation, advice in verdict]
    if evidence.sample.not_restored:
        left_out["data_as_it_was"] = evidence.sample.not_restored
    return Report(tuple(findings), passed, left_out, time.perf_counter() - start)


def gather_evidence(step: TrainStep, data: Data) -> Evidence:
    """Reads the data, runs the passes and the training steps, and restores everything."""
    replicas = replicas_of(step.strategy)
    fixed_size = batch_size_of(step.model) is not None
    with (
        warnings.catch_warnings(),
        recording_disabled(),
        preserve_random_state(),
        sample_from(data, None if fixed_size else max(_OVERFIT_EXAMPLES, replicas)) as sample,
    ):
        warnings.simplefilter("ignore")  # a check reports the same, or training warns again
        private = private_step(step, step.optimizer, step.chosen)
        with scope_of(step.strategy), restored_state(private):
            operation = last_operation(private, sample.batches[0])
            with restored_state(private):
                first_pass = Probe(private, sample.batches, fixed_size)
            groups = trained_groups(private)
            second_pass = None
            with restored_state(private):
                trial = try_steps(private, sample, groups)
                if 0.0 in first_pass.gradients.values() and trial.error is None:
                    second_pass = Probe(private, sample.batches, fixed_size)
            failed = trial.error or first_pass.error
            overfit = None if failed else overfit_few_examples(step, private, sample, groups)
    return Evidence(step, sample, first_pass, operation, groups, trial, second_pass, overfit)
