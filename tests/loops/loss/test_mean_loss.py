"""Parts for a loop of one's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers


def _model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, "tanh", kernel_regularizer=keras.regularizers.L2(0.05)),
            # Keras 3.12's own `L1` is float32 in a layer of float64, too.
            keras.layers.Dense(2, bias_regularizer=keras.regularizers.L1L2(l1=0.02)),
        ]
    )


def test_a_loop_of_parts_is_fit():
    model, reference = _model(), _model()
    reference.compile(keras.optimizers.Adam(0.01), "mse")
    per_example = keras.losses.MeanSquaredError(reduction="none")
    update = loops.Update(keras.optimizers.Adam(0.01), model.trainable_variables)

    @loops.replicated
    def step(x, y, weight):
        """One step."""
        with tf.GradientTape() as tape:
            loss = loops.mean_loss(per_example(y, model(x, training=True)), model, weight)
        update(tape.gradient(loss, update.variables))
        return {"loss": loss}

    assert step.__name__ == "step" and step.__doc__ == "One step."
    random = np.random.RandomState(0)
    for _ in range(5):
        x, y, weight = random.rand(8, 3), random.rand(8, 2), random.rand(8)
        x, y, weight = (array.astype("float32") for array in (x, y, weight))
        reference.reset_metrics()  # before 3.13, Keras returned the mean since the last reset
        expected = reference.train_on_batch(x, y, sample_weight=weight)
        assert float(step(x, y, weight)["loss"]) == pytest.approx(float(expected), abs=1e-6)
    for ours, theirs in zip(model.weights, reference.weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6)


def test_replicated_takes_keywords_and_returns_nests():
    @loops.replicated
    def step(x, *, scale):
        return {"sum": tf.reduce_sum(x) * scale, "parts": (x, x + 1)}

    result = step(tf.constant([1.0, 2.0]), scale=tf.constant(2.0))
    assert float(result["sum"]) == 6.0
    assert result["parts"][1].numpy().tolist() == [2.0, 3.0]


def test_replicated_traces_once_for_a_signature():
    traces = []

    @loops.replicated
    def step(x):
        traces.append(x)
        return x

    for value in range(5):
        step(tf.constant(float(value)))
    assert len(traces) == 1


def _diverging():
    weight = keras.Variable(1.0, name="w")
    update = loops.Update(keras.optimizers.SGD(0.1), {"head/w": weight})

    @loops.replicated
    def step(x):
        with tf.GradientTape() as tape:
            loss = weight * x
        update(tape.gradient(loss, update.variables))
        return loss

    return step, weight


def test_replicated_tells_of_nonfinite_gradients():
    step, weight = _diverging()
    step(tf.constant(1.0))
    with pytest.raises(loops.NonFiniteError, match="gradient of 'head/w' is not finite") as caught:
        step(tf.constant(np.nan))
    assert caught.value.variable == "head/w"
    assert float(weight) == pytest.approx(0.9)


def test_replicated_inside_another_function():
    inner, weight = _diverging()
    outer = loops.replicated(lambda x: inner(x) + 1.0)
    assert float(outer(tf.constant(1.0))) == 2.0
    with pytest.raises(loops.NonFiniteError, match="head/w"):
        outer(tf.constant(np.inf))
    assert float(weight) == pytest.approx(0.9)


def test_replicated_passes_other_errors_on():
    @loops.replicated
    def step(x):
        return tf.debugging.check_numerics(x, "mine")

    with pytest.raises(tf.errors.InvalidArgumentError, match="mine"):
        step(tf.constant(np.nan))


@pytest.mark.parametrize(
    "loss_shape, weight_shape",
    [((6,), None), ((6,), (6,)), ((6, 5), None), ((6, 5), (6,)), ((6, 5), (6, 1)), ((6, 5), (6, 5))],
)
def test_mean_loss_is_that_of_keras(loss_shape, weight_shape):
    random = np.random.RandomState(1)
    y, p = random.rand(*loss_shape, 3), random.rand(*loss_shape, 3)
    weight = None if weight_shape is None else random.rand(*weight_shape).astype("float32")
    theirs = weight[:, None] if weight_shape == (6,) and len(loss_shape) == 2 else weight
    expected = keras.losses.MeanSquaredError()(y, p, sample_weight=theirs)
    losses = keras.losses.MeanSquaredError(reduction="none")(y, p)
    assert losses.shape == loss_shape
    ours = loops.mean_loss(losses, sample_weight=weight)
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)


def test_mean_loss_adds_regularisation():
    model = _model()
    model(np.zeros((2, 3), "float32"))
    expected = 1.5 + sum(float(loss) for loss in model.losses)
    assert expected > 1.5
    assert float(loops.mean_loss([1.0, 2.0], model)) == pytest.approx(expected)
    bare = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    assert float(loops.mean_loss([1.0, 2.0], bare)) == 1.5


def test_mean_loss_of_half_precision_is_single():
    losses = tf.constant([40000.0, 40000.0], tf.float16)
    loss = loops.mean_loss(losses)
    assert loss.dtype == tf.float32 and float(loss) == 40000.0


def test_mean_loss_of_a_scalar():
    with pytest.raises(ValueError, match="`per_example` is a scalar: .* `reduction='none'`"):
        loops.mean_loss(tf.constant(1.0))


def test_mean_loss_does_not_broadcast_losses_over_weights():
    assert float(loops.mean_loss(tf.ones(3), sample_weight=tf.constant([[1.0], [0.0], [0.5]]))) == 0.5
    with pytest.raises(ValueError, match=r"`sample_weight` has shape \(3, 2\), and .*: pass one for each"):
        loops.mean_loss(tf.ones(3), sample_weight=tf.ones((3, 2)))


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_loss_of_what_is_not_masked(weighted):
    random = np.random.RandomState(2)
    losses, mask, weight = random.rand(4, 4), random.rand(4, 4) < 0.6, random.rand(4) if weighted else None
    factor = 1.0 if weight is None else weight[:, None]
    found = loops.mean_loss(tf.constant(losses), sample_weight=weight, mask=mask)
    assert float(found) == pytest.approx((losses * mask * factor).sum() / mask.sum(), rel=1e-6)
    y, predictions = random.randint(0, 3, (4, 4)), random.dirichlet(np.ones(3), (4, 4))
    ignoring = {"ignore_class": 1}
    attached = keras.losses.sparse_categorical_crossentropy(y, predictions, **ignoring)
    expected = keras.losses.SparseCategoricalCrossentropy(**ignoring)(y, predictions)
    assert float(loops.mean_loss(attached)) == pytest.approx(float(expected), rel=1e-6)


def test_accumulated_batches_count_what_is_not_masked():
    """3 and 1 unmasked values, one gradient each: their mean is that of 4."""
    masks = [[True, True, True], [False, True, False]]
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )

    def loss(model, batch, training=True):
        return loops.mean_loss(model(batch[0])[:, 0] * batch[1], mask=batch[2])

    def several(model, batch, training=True):
        return loss(model, batch) + loops.mean_loss(model(batch[0]))

    step = loops.TrainStep(model, loss, keras.optimizers.SGD(1.0), accumulate=2)
    for factor, mask in zip([1.0, 5.0], masks):
        step(np.ones((3, 1)), np.full(3, factor), np.array(mask))
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(-2.0)
    with pytest.raises(
        ValueError, match="`loss` is a function that takes several means, one of which is masked"
    ):
        loops.TrainStep(model, several, "sgd", accumulate=2)(np.ones((3, 1)), np.ones(3), np.array(masks[0]))
