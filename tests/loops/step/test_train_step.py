"""TrainStep beside Keras' `train_on_batch` and a loop written by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-3),
    "adagrad": lambda: keras.optimizers.Adagrad(1e-2),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "adamw": lambda: keras.optimizers.AdamW(1e-3, weight_decay=1e-2),
    "adam with schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 15)),
    "lion": lambda: keras.optimizers.Lion(1e-3),
    "ema": lambda: keras.optimizers.Adam(1e-3, use_ema=True, ema_overwrite_frequency=7),
}


# The weights of examples end in the gradients, whatever the optimizer does with them. What optimizers do is
# beside Keras' own in `tests/optim/updates`.
CASES = [("adamw", False), ("lion", False), ("adam with schedule", True)]
OTHERS = [(name, False) for name in OPTIMIZERS if name not in ("adamw", "lion")]


@pytest.mark.parametrize(
    ("name", "weighted"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.long) for case in (*OTHERS, ("momentum", True)))],
)
def test_same_weights_as_train_on_batch(logits, assert_same_weights, name, weighted):
    ours, theirs = logits.norm_model(), logits.norm_model()
    step = loops.TrainStep(ours, logits.crossentropy(), OPTIMIZERS[name]())
    theirs.compile(OPTIMIZERS[name](), logits.crossentropy())
    for _, (x, y, w) in zip(range(20), logits.batches(), strict=False):
        weight = w if weighted else None
        loss = step(x, y, weight)["loss"]
        theirs.reset_metrics()
        expected = theirs.train_on_batch(x, y, sample_weight=weight, return_dict=True)["loss"]
        np.testing.assert_allclose(float(loss), expected, rtol=1e-5)
    assert_same_weights(ours, theirs, rtol=1e-6)


def test_same_weights_as_a_loop_written_by_hand(logits, assert_same_weights):
    ours, theirs = logits.dense_model(), logits.dense_model()
    step = loops.TrainStep(ours, logits.crossentropy(), keras.optimizers.SGD(0.1), clip_norm=0.5)
    loss_function, clipped = logits.crossentropy(), 0
    for _, (x, y, _) in zip(range(20), logits.batches(), strict=False):
        step(x, y)
        with tf.GradientTape() as tape:
            loss = loss_function(y, theirs(x, training=True)) + tf.add_n(theirs.losses)
        values = [v.value for v in theirs.trainable_variables]
        gradients, norm = tf.clip_by_global_norm(tape.gradient(loss, values), 0.5)
        clipped += float(norm) > 0.5
        for value, gradient in zip(values, gradients, strict=True):
            value.assign_sub(0.1 * gradient)
    assert 0 < clipped < 20
    assert_same_weights(ours, theirs, rtol=1e-6)


def test_learning_rate_set_between_steps_acts(logits):
    model = logits.dense_model()
    step = loops.TrainStep(model, logits.crossentropy(), keras.optimizers.SGD(0.1))
    step(logits.x[:8], logits.y[:8])
    step.optimizer.learning_rate = 0.0
    before = model.get_weights()
    step(logits.x[:8], logits.y[:8])
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_run_equals_single_steps_over_arrays_and_datasets(logits, assert_same_weights):
    models = [logits.norm_model() for _ in range(3)]
    steps = [
        loops.TrainStep(m, logits.crossentropy(), keras.optimizers.Adam(1e-2), metrics=["accuracy"])
        for m in models
    ]
    data = loops.Batches(logits.x, logits.y, 24, shuffle=False)
    dataset = tf.data.Dataset.from_tensor_slices((logits.x, logits.y)).batch(24)
    singles = [steps[0](x, y) for _ in range(4) for x, y in data]
    runs = [steps[1].run(iter(data), 3) for _ in range(4)]
    streams = [steps[2].run(iter(dataset), 3) for _ in range(4)]
    for name in ("loss", "accuracy"):
        expected = [float(values[name]) for values in singles]
        for many in (runs, streams):
            got = np.concatenate([values[name] for values in many])
            np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert_same_weights(models[0], models[1], rtol=1e-6)
    assert_same_weights(models[0], models[2], rtol=1e-6)


def test_same_seed_same_numbers_with_dropout(logits):
    def weights():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(3)]
        )
        step = loops.TrainStep(model, logits.crossentropy(), "sgd")
        step.run(iter(loops.Batches(logits.x, logits.y, 8, seed=5)), 8)
        return model.get_weights()

    for left, right in zip(weights(), weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_dict_of_inputs(logits):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((2,), name="a"), keras.Input((4,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(joined))
    step = loops.TrainStep(model, logits.crossentropy(), "sgd", metrics=["accuracy"])
    inputs = {"a": logits.x[:, :2], "b": logits.x[:, 2:]}
    first = step(inputs, logits.y)["loss"]
    step.run(iter(loops.Batches(inputs, logits.y, 16)), 4)
    assert float(step(inputs, logits.y)["loss"]) < float(first)


def test_a_tuple_of_inputs(logits):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((2,)), keras.Input((4,))
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model([a, b], keras.layers.Dense(3, name="last")(joined))
    whole = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="last")])
    whole.set_weights(model.get_weights())
    inputs = (logits.x[:, :2], logits.x[:, 2:])
    for each, x in ((model, inputs), (whole, logits.x)):
        step = loops.TrainStep(each, logits.crossentropy(), "sgd")
        step(x, logits.y)
        step.run(iter(loops.Batches(x, logits.y, 16)), 4)
    for left, right in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


def test_loss_function_of_model_and_batch(logits, assert_same_weights):
    ours, theirs = logits.dense_model(), logits.dense_model()

    def loss(model, batch):
        x, y, weight = batch
        predictions = model(x, training=True)
        return logits.crossentropy()(y, predictions, weight), predictions

    step = loops.TrainStep(ours, loss, keras.optimizers.SGD(0.1), metrics=["accuracy"])
    theirs.compile(keras.optimizers.SGD(0.1), logits.crossentropy())
    for _, (x, y, w) in zip(range(20), logits.batches(), strict=False):
        values = step(x, y, w)
        theirs.train_on_batch(x, y, sample_weight=w)
    assert set(values) == {"loss", "accuracy"}
    assert_same_weights(ours, theirs, rtol=1e-6)


def test_accumulating_equals_the_large_batch(logits, assert_same_weights):
    ours, theirs = logits.dense_model(), logits.dense_model()
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
    step = loops.TrainStep(
        ours, logits.crossentropy(), keras.optimizers.SGD(rate), accumulate=4, clip_norm=0.5
    )
    large = loops.TrainStep(theirs, logits.crossentropy(), keras.optimizers.SGD(rate), clip_norm=0.5)
    for _ in range(5):
        for start in range(0, 64, 16):
            step(logits.x[start : start + 16], logits.y[start : start + 16])
        large(logits.x, logits.y)
    assert int(step.optimizer.iterations) == 5, "schedules count updates, not batches"
    assert_same_weights(ours, theirs, atol=1e-5, rtol=1e-5)
