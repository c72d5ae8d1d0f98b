"""Labels that do not fit, at each door that a batch comes in by."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from tests.loops.loss.test_labels import GOOD, X, labelled_step

BAD = [
    (np.array([0, 1, 2, 0, 1, 3]), "holds the label 3, .* 3 outputs, for the labels 0 to 2"),
    (np.array([0, 1, 2, 0, 1, -1]), "holds the label -1, "),
    (GOOD.astype("float32"), "`y` is float32 where .* 0 to 2. Pass `y.astype"),
    (GOOD.astype("float64"), "`y` is float32 where"),
    (GOOD.astype(bool), "`y` is bool where"),
    (np.eye(3, dtype="int64")[GOOD], r"shape \(batch, 3\), which looks one-hot"),
    (np.eye(3)[GOOD], "looks one-hot"),
]


def _run_one(step, x, y):
    return step(x, y)


def _run_tensors(step, x, y):
    return step(tf.constant(x), tf.constant(y))


def _run_batches(step, x, y):
    return step.run(iter(loops.Batches(x, y, 4, shuffle=False)), 2)


def _run_transformed(step, x, y):
    data = loops.Batches(x, y, 4, shuffle=False, transform=lambda x, y: (x, y))
    return step.run(iter(data), 2)


def _run_dataset(step, x, y):
    if y.dtype == np.float64:
        y = y.astype("float32")
    return step.run(iter(tf.data.Dataset.from_tensor_slices((x, y)).batch(4)), 2)


RUNS = [_run_one, _run_tensors, _run_batches, _run_transformed, _run_dataset]
# Out of range, of another dtype, of another shape, and each door once: the rest differ in the dtype alone.
ALWAYS = [(_run_one, 0), (_run_one, 2), (_run_one, 5)]
ALWAYS += [(_run_tensors, 0), (_run_batches, 5), (_run_transformed, 2), (_run_dataset, 0)]


@pytest.mark.parametrize(
    "run, y, match",
    [
        pytest.param(run, y, match, marks=() if (run, number) in ALWAYS else pytest.mark.long)
        for run in RUNS
        for number, (y, match) in enumerate(BAD)
    ],
)
def test_labels_that_do_not_fit(run, y, match):
    step = labelled_step()
    before = [weight.numpy() for weight in step.model.weights]
    in_kernel = run in (_run_transformed, _run_dataset) and y.dtype.kind == "i" and y.ndim == 1
    told = f"holds the label {y[-1]}, but the network has 3 outputs, for 0 to 2" if in_kernel else match
    with pytest.raises(loops.LabelError, match=told):
        run(step, X, y)
    good_steps = 1 if in_kernel else 0  # the bad label is in the second batch
    assert int(step.optimizer.iterations.numpy()) == good_steps
    if not good_steps:
        for weight, old in zip(step.model.weights, before):
            np.testing.assert_array_equal(weight.numpy(), old)
    run(step, X, GOOD)  # and it goes on


def test_labels_that_fit():
    step = labelled_step()
    for dtype in ("int8", "uint8", "int32", "int64", "uint16"):
        _run_one(step, X, GOOD.astype(dtype))
    _run_batches(step, X, GOOD.astype("uint8"))


def test_evaluation_looks_too():
    data = loops.Batches(X, np.array([0, 1, 2, 0, 1, 7]), 4)
    with pytest.raises(loops.LabelError, match="label 7, .* give the network 8 outputs"):
        loops.evaluate(labelled_step(cls=loops.EvalStep), data)
