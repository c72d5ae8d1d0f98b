"""`replicated` on two replicas; logical devices must be made before TensorFlow starts."""

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

two = loops.strategy("mirrored:cpu:2")


@loops.replicated
def step(batch, scale):
    x, y = batch["x"], batch["y"]
    return {
        "n": tf.shape(x)[0],
        "sum": tf.reduce_sum(x) * scale,
        "pairs": tf.stack([x[:, 0], y], 1),
        "large": y > 2.0,
        "scaled": tf.constant(True),
    }


for n in (6, 7, 9):
    x, y = np.arange(2.0 * n).reshape(n, 2), np.arange(float(n))
    with two.scope():
        found = step({"x": x, "y": tf.constant(y)}, 0.5)
    assert int(found["n"]) == n and float(found["sum"]) == x.sum() / 2
    np.testing.assert_array_equal(found["pairs"], np.stack([x[:, 0], y], 1))
    np.testing.assert_array_equal(found["large"], y > 2)
    assert bool(found["scaled"]) and found["scaled"].shape == ()


# What layers write: the mean over replicas, put back after a batch with NaN, other random numbers on each.
X = np.random.RandomState(0).normal(3.0, 2.0, (4, 3))
BAD = np.where(np.arange(4)[:, None] == 3, np.nan, X)
PARTS = X.reshape(2, 2, 3)
keras.config.set_dtype_policy("float64")


def copies(variable):
    return [copy.numpy() for copy in two.experimental_local_results(variable.value)]


def parts(on_nonfinite):
    """A model, whose state is the statistics and what `SpectralNormalization` writes, and a step of it."""
    keras.utils.set_random_seed(0)
    with two.scope():
        norm = keras.layers.BatchNormalization(momentum=0.5)
        spectral, drop = keras.layers.SpectralNormalization(keras.layers.Dense(3)), keras.layers.Dropout(0.5)
        model = keras.Sequential([keras.Input((3,)), norm, spectral])
        update = loops.Update(keras.optimizers.SGD(0.1), model.trainable_variables, on_nonfinite=on_nonfinite)
        metric = keras.metrics.MeanSquaredError()

    @loops.replicated
    def own(x):
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            loss = loops.mean_loss(predictions**2)
        metric.update_state(x, predictions)
        taken = update(tape.gradient(loss, update.variables), loss)
        return loss, taken, drop(tf.ones([1, 64]), training=True)

    return model, metric, own


for on_nonfinite in ("skip", "raise", "ignore"):
    model, metric, own = parts(on_nonfinite)
    with two.scope():
        _, taken, drawn = own(X)
    assert bool(taken) and not np.array_equal(drawn[0], drawn[1])
    norm, spectral = model.layers
    right = [(norm.moving_mean, X.mean(0) / 2), (norm.moving_variance, (1 + PARTS.var(1).mean(0)) / 2)]
    for variable, value in right:
        for copy in copies(variable):
            np.testing.assert_allclose(copy, value)
    before = [copies(variable) for variable in (*model.variables, *metric.variables)]
    try:
        with two.scope():
            assert on_nonfinite == "raise" or bool(own(BAD)[1]) is (on_nonfinite == "ignore")
            if on_nonfinite == "raise":
                own(BAD)
                raise AssertionError("no error")
    except loops.NonFiniteError:
        pass
    after = [copies(variable) for variable in (*model.variables, *metric.variables)]
    same = [np.array_equal(*pair) for pair in zip(before, after, strict=True)]
    assert not any(same) if on_nonfinite == "ignore" else all(same), (on_nonfinite, same)

with two.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.SpectralNormalization(keras.layers.Dense(3))])
    head = keras.layers.Dense(1)
    head.build((None, 3))
    update = loops.Update(keras.optimizers.SGD(0.1), head.trainable_variables)
    stateful = keras.Sequential(
        [keras.Input(batch_shape=(2, 3, 1)), keras.layers.SimpleRNN(1, stateful=True, name="memory")]
    )
    metrics = [keras.metrics.F1Score("macro", name="f1"), keras.metrics.R2Score(name="r2")]
    late = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1), metrics=metrics, on_nonfinite="skip")


@loops.replicated
def of_the_head(x):
    with tf.GradientTape() as tape:
        loss = loops.mean_loss(head(model(x, training=True)) ** 2)
    return update(tape.gradient(loss, update.variables))


kernel = model.layers[0].layer.kernel
before = copies(kernel)
with two.scope():
    of_the_head(X)
assert np.array_equal(before, copies(kernel)), "it is not trained here"

# A check that fails ends all replicas, so it waits until what was written is put back on each of them.
with two.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    raising = loops.Update(keras.optimizers.SGD(0.1), model.trainable_variables)


@loops.replicated
def normalized(x):
    with tf.GradientTape() as tape:
        loss = loops.mean_loss(model(x, training=True) ** 2)
    raising(tape.gradient(loss, raising.variables))
    graph = tf.compat.v1.get_default_graph()
    waits = [next(op for op in graph.get_operations() if op.type in ("If", "StatelessIf"))]
    for operation in waits:  # grows
        before = [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
        waits += [op for op in before if op not in waits]
    waited_for.append({op.device for op in waits if op.type == "AssignVariableOp"})
    return loss


waited_for: list[set[str]] = []
with two.scope():
    normalized(X)
assert len(waited_for[-1]) == 2, waited_for

# Metrics that make variables at their first update.
targets = np.eye(3)[[0, 1, 2, 0]]
outputs = late(X, targets)
state = {name: variable.numpy() for name, variable in late.state().items()}
late(BAD, targets)
for name, variable in late.state().items():
    assert name == "batches_done" or np.array_equal(variable.numpy(), state[name]), name
assert "metrics/f1/true_positives" in state and np.isfinite(float(outputs["r2"]))

for refused in (
    lambda: loops.EvalStep(stateful, "mse"),
    lambda: loops.replicated(lambda x: stateful(x))(X[..., None]),
):
    try:
        with two.scope():
            refused()
        raise AssertionError("taken")
    except ValueError as error:
        assert "'memory' with `stateful=True`" in str(error), error
