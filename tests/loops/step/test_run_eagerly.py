"""After `tf.config.run_functions_eagerly(True)` a debugger can enter a step, whose numbers stay the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, models, optim
from tests.tolerance import rounding

pytestmark = pytest.mark.numbers
K = keras.optimizers
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((40, 28, 28, 1), "float32")
DIGITS = RANDOM.integers(0, 10, 40)
BATCH = 8
# A graph, and XLA above all, has kernels of its own; the longest sum is that of 400 inputs.
CLOSE = rounding("float64", sums=400, steps=10)


@pytest.fixture
def eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


class Watch(keras.layers.Layer):
    """Keeps what a breakpoint here would find: values, or the symbols of a trace."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        self.seen.append(tf.is_symbolic_tensor(x))
        return x


def lenet(kind=models.LeNet5, **options):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((28, 28, 1)), Watch(), kind(**options)])


def grouped(model):
    groups = {"features": optim.Group("conv", lr_scale=0.1), "rest": optim.Group("fc")}
    optimizer = optim.GroupedOptimizer(K.Adam(1e-3), optim.partition(model, groups))
    optimizer.freeze("features")
    return optimizer


CASES = {
    "subclassed": {},
    "sequential": {"kind": models.lenet5_sequential},
    "functional": {"kind": models.lenet5_functional},
    "dropout and BatchNorm": {"dropout": 0.3, "batch_norm": True},
    "clipped sums": {"step": {"clip_norm": 0.1, "accumulate": 2}},
    "what may be skipped": {"step": {"on_nonfinite": "skip"}},
    "some layers": {"step": {"variables": "fc"}},
    "groups": {"optimizer": grouped},
    "XLA": {"step": {"jit_compile": True}},
}


def build(kind=models.LeNet5, optimizer=lambda model: K.SGD(0.05, momentum=0.9), step=None, **options):
    model = lenet(kind, **options)
    loss = keras.losses.SparseCategoricalCrossentropy()
    return loops.TrainStep(model, loss, optimizer(model), metrics=["accuracy"], **(step or {}))


def trained(source, **options):
    """Weights and logs after 10 steps."""
    step = build(**options)
    arrays = loops.Batches(IMAGES, DIGITS, BATCH, shuffle=False)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, DIGITS)).batch(BATCH)
    if source == "call":
        logs = [step(x, y) for _ in range(2) for x, y in data]
        return step, {name: [float(log[name]) for log in logs] for name in logs[0]}
    return step, loops.train(step, arrays if source == "arrays" else data, epochs=2).history


def assert_same(step, traced, logs, expected):
    entered, other = (set(each.model.layers[0].seen[1:]) for each in (step, traced))  # without building
    assert (entered, other) == ({False}, {True})
    assert logs.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=rounding(), err_msg=name)
    for one, two in zip(step.model.get_weights(), traced.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=CLOSE, atol=CLOSE)


# What the step calls in the same way as in other cases.
ALIKE = {"sequential", "functional", "some layers", "what may be skipped"}


@pytest.mark.parametrize(
    ("case", "source"),
    [
        *(pytest.param(case, "arrays", marks=pytest.mark.long if case in ALIKE else ()) for case in CASES),
        ("subclassed", "call"),
        pytest.param("subclassed", "dataset", marks=pytest.mark.release),
    ],
)
def test_same_numbers(case, source, eagerly):
    step, logs = trained(source, **CASES[case])
    tf.config.run_functions_eagerly(False)
    traced, expected = trained(source, **CASES[case])
    assert_same(step, traced, logs, expected)


def test_evaluation(eagerly):
    step = build()
    data = loops.Batches(IMAGES, DIGITS, 9, shuffle=False)
    logs = loops.evaluate(loops.EvalStep(step.model, step.loss, ["accuracy"]), data)
    assert set(step.model.layers[0].seen[1:]) == {False}
    tf.config.run_functions_eagerly(False)
    expected = loops.evaluate(loops.EvalStep(step.model, step.loss, ["accuracy"]), data)
    assert logs == pytest.approx(expected, rel=1e-6)


def test_a_bad_batch_leaves_everything_as_it_was(eagerly):
    x = IMAGES.copy()
    x[20] = np.nan  # in the third batch
    step, reference = (build(batch_norm=True) for _ in range(2))
    for start in (0, BATCH):
        reference(IMAGES[start : start + BATCH], DIGITS[start : start + BATCH])
    with pytest.raises(loops.NonFiniteError, match="step 3: the gradient of 'lenet5/conv1/kernel'"):
        step.run(iter(loops.Batches(x, DIGITS, BATCH, shuffle=False)), 5)
    for one, two in zip(step.model.get_weights(), reference.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("labels", [[3] * BATCH, np.eye(10)[DIGITS[:BATCH]]], ids=["out of range", "one-hot"])
def test_bad_labels_leave_everything_as_it_was(labels, eagerly):
    step = build(batch_norm=True, num_classes=3)
    before = step.model.get_weights()
    good = np.array(DIGITS[:BATCH]) % 3
    for _ in range(2):  # the same again
        with pytest.raises(loops.LabelError):
            step.run(iter(loops.Batches(IMAGES[:BATCH], np.array(labels), BATCH)), 1)
    for one, two in zip(step.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    step(IMAGES[:BATCH], good)


def test_labels_are_checked_anew_in_a_graph():
    """What ran eagerly has shown nothing of the labels of batches that did not run."""
    bad = DIGITS % 3
    bad[-1] = 3
    step, data = build(num_classes=3), loops.Batches(IMAGES, bad, BATCH, shuffle=False)
    tf.config.run_functions_eagerly(True)
    try:
        step.run(iter(data), 2)
    finally:
        tf.config.run_functions_eagerly(False)
    with pytest.raises(loops.LabelError, match="label 3"):
        step.run(iter(data), 1)
    assert int(step.batches_done.numpy()) == 2


class Looped(keras.layers.Layer):
    """Calls a function that was traced before, with a loop in it."""

    def __init__(self):
        super().__init__()
        spec = tf.TensorSpec([None, 4], tf.float32)
        self.function = tf.function(self.looped, autograph=False).get_concrete_function(spec)

    def looped(self, x):
        return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 1.5), (0, x))[1]

    def call(self, x):
        return self.function(x)


@pytest.mark.numbers("float32")  # of the function; twice the same kernels
def test_a_small_model_that_calls_functions():
    found = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), Looped(), keras.layers.Dense(10, "softmax")])
        step = loops.TrainStep(model, "sparse_categorical_crossentropy", K.SGD(0.1))
        tf.config.run_functions_eagerly(eagerly)
        try:
            step.run(iter(loops.Batches(IMAGES[:, 0, :4, 0], DIGITS, BATCH, shuffle=False)), 5)
        finally:
            tf.config.run_functions_eagerly(False)
        found.append(model.get_weights())
    for one, two in zip(*found):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7)


def test_there_and_back():
    """What was traced before is there again afterwards."""
    step = build()
    step(IMAGES[:BATCH], DIGITS[:BATCH])
    tf.config.run_functions_eagerly(True)
    try:
        step(IMAGES[:BATCH], DIGITS[:BATCH])
    finally:
        tf.config.run_functions_eagerly(False)
    traces = step.traces
    step(IMAGES[:BATCH], DIGITS[:BATCH])
    assert step.traces == traces
