"""train: whole runs against `model.fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

RANDOM = np.random.RandomState(0)
X = RANDOM.rand(22, 4).astype("float32")
Y = RANDOM.randint(0, 3, 22)
WEIGHT = RANDOM.rand(22).astype("float32")
LOSS = "sparse_categorical_crossentropy"


def _model():
    keras.utils.set_random_seed(11)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, "softmax"),
        ]
    )


def _step(rate=0.1, metrics=("accuracy",), **options):
    return loops.TrainStep(_model(), LOSS, keras.optimizers.SGD(rate), metrics=metrics, **options)


def _data(x=X, y=Y, **options):
    return loops.Batches(x, y, 5, shuffle=False, **options)


def _dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays or (X, Y)).batch(5)


def _generated():
    def generate():
        for first in range(0, 22, 5):
            yield X[first : first + 5], Y[first : first + 5]

    specs = (tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.int64))
    return tf.data.Dataset.from_generator(generate, output_signature=specs)


def _weights(model):
    return [weight.numpy() for weight in model.weights]


def _assert_same_weights(one, other, atol=1e-6):
    for a, b in zip(_weights(one), _weights(other)):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def _assert_same_logs(ours, theirs, rel=2e-6):
    assert set(ours.history) == set(theirs.history)
    for name, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=rel, atol=2e-6, err_msg=name)


class Reader(loops.StepsCallback):
    def __init__(self):
        super().__init__()
        self.numbers, self.losses, self.ended = [], [], 0

    def on_train_steps_end(self, first, values):
        self.numbers += range(first, first + len(values["loss"]))
        self.losses += values["loss"].tolist()

    def on_train_end(self, logs=None):
        self.ended += 1


class Every(keras.callbacks.Callback):
    """Does nothing, after every step."""

    def on_train_batch_end(self, batch, logs=None):
        pass


class TopK(keras.metrics.Metric):
    """A metric that does not tell its configuration, as users write them."""

    def __init__(self, k=1, name="top"):
        super().__init__(name=name)
        self.k = k
        self.hits = self.add_weight(name="hits", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y, predictions, sample_weight=None):
        self.hits.assign_add(
            tf.reduce_sum(tf.cast(tf.math.in_top_k(y, predictions, self.k), tf.float32))
        )
        self.count.assign_add(tf.cast(tf.size(y), tf.float32))

    def result(self):
        return self.hits / self.count


@pytest.mark.parametrize("kind", ["batches", "weighted", "dataset", "generator"])
def test_history_is_that_of_fit(kind):
    reference, step = _model(), _step()
    reference.compile(keras.optimizers.SGD(0.1), LOSS, weighted_metrics=["accuracy"])
    fit = {"validation_data": (X[:7], Y[:7]), "validation_batch_size": 5, "epochs": 3, "verbose": 0}
    if kind == "weighted":
        expected = reference.fit(X, Y, 5, shuffle=False, sample_weight=WEIGHT, **fit)
    else:
        expected = reference.fit(X, Y, 5, shuffle=False, **fit)
    data = {
        "batches": _data,
        "weighted": lambda: _data(sample_weight=WEIGHT),
        "dataset": _dataset,
        "generator": _generated,
    }[kind]()
    history = loops.train(step, data, epochs=3, validation=_data(X[:7], Y[:7]))
    _assert_same_logs(history, expected)
    _assert_same_weights(step.model, reference, 2e-6)
    assert step.traces == 1 and history.epoch == [0, 1, 2]


@pytest.mark.parametrize("data", [_data, _dataset, _generated], ids=["batches", "dataset", "unknown"])
def test_one_step_a_call_or_many_is_the_same(data):
    many, each = _step(), _step()
    slow, fast = Reader(), Reader()
    one = loops.train(many, data(), epochs=3, callbacks=[fast])
    other = loops.train(each, data(), epochs=3, callbacks=[slow, Every()])
    # Data of unknown length goes batch by batch through another graph, whose sums may round otherwise.
    exact = data is not _generated
    _assert_same_weights(many.model, each.model, 0.0 if exact else 1e-6)
    _assert_same_logs(one, other, 1e-7 if exact else 1e-5)
    assert fast.numbers == slow.numbers == list(range(1, 16))
    np.testing.assert_allclose(fast.losses, slow.losses, rtol=0.0 if exact else 1e-5)


def test_endless_and_rolling_data():
    endless, rolling = _step(), _step()
    one = loops.train(endless, _dataset().repeat(), epochs=2, steps_per_epoch=7)
    other = loops.train(rolling, _dataset(), epochs=np.int64(2), steps_per_epoch=7)
    _assert_same_logs(one, other, 1e-7)
    _assert_same_weights(endless.model, rolling.model, 0.0)
    assert int(endless.optimizer.iterations.numpy()) == 14


def test_validation_leaves_training_alone():
    metrics = lambda: [TopK(k=2), keras.metrics.MeanMetricWrapper(lambda y, p: p[:, 0], "p")]  # noqa: E731
    plain, step = _step(metrics=metrics()), _step(metrics=metrics())
    shuffled = [loops.Batches(X, Y, 5, seed=4) for _ in range(2)]
    expected = loops.train(plain, shuffled[0], epochs=3)
    history = loops.train(step, shuffled[1], epochs=3, validation=shuffled[1])
    for name, values in expected.history.items():
        assert history.history[name] == values
    _assert_same_weights(step.model, plain.model, 0.0)
    assert shuffled[1].epoch == 3
    for metric in step.metrics:
        assert float(metric.result()) == pytest.approx(history.history[metric.name][-1])
    top = tf.math.in_top_k(Y, step.model(X, training=False), 2)
    assert history.history["val_top"][-1] == pytest.approx(np.mean(top))


@pytest.mark.parametrize(
    "arguments, error, match",
    [
        ({"step": "x"}, TypeError, "`step` must be a `loops.TrainStep`, not 'x'"),
        ({"epochs": 0}, ValueError, "`epochs` must be a whole number of at least 1, not 0"),
        ({"epochs": True}, ValueError, "`epochs` must be .* not True"),
        ({"epochs": 1.5}, ValueError, "`epochs` must be .* not 1.5"),
        ({"steps_per_epoch": 0}, ValueError, "`steps_per_epoch` must be .* not 0"),
        ({"data": (X, Y)}, TypeError, "`data` must be a `loops.Batches`"),
        ({"validation": (X, Y)}, TypeError, "`validation` must be a `loops.Batches`"),
        ({"data": _dataset().repeat()}, ValueError, "`data` has no end: .* `steps_per_epoch=...`"),
        ({"validation": _dataset().repeat()}, ValueError, "`validation` has no end: .* `dataset.take"),
        ({"data": _dataset().take(0)}, ValueError, "`data` is empty"),
        ({"callbacks": keras.callbacks.History()}, TypeError, "`callbacks` must be a list or tuple"),
        ({"callbacks": None}, TypeError, "`callbacks` must be a list or tuple, not None"),
        ({"callbacks": [print]}, TypeError, "`callbacks` holds <.*print>, which is no"),
        ({"callbacks": [keras.callbacks.History]}, TypeError, "`callbacks` holds <class"),
    ],
)
def test_bad_arguments(arguments, error, match):
    given = {"step": loops.TrainStep(_model(), LOSS, "sgd"), "data": _data(), "epochs": 1, **arguments}
    with pytest.raises(error, match=match):
        loops.train(given.pop("step"), given.pop("data"), **given)


def test_a_loss_function_that_cannot_evaluate():
    step = loops.TrainStep(_model(), lambda model, batch: tf.reduce_mean(model(batch[0])), "sgd")
    with pytest.raises(ValueError, match="without a parameter `training`"):
        loops.train(step, _data(), epochs=1, validation=_data())
    assert not step.optimizer.built


def test_averaged_weights_are_left_in_the_model_as_fit_does():
    def optimizer():
        return keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8)

    ours, theirs = _model(), _model()
    loops.train(loops.TrainStep(ours, LOSS, optimizer()), _data(), epochs=2)
    theirs.compile(optimizer(), LOSS)
    theirs.fit(_dataset(), shuffle=False, epochs=2, verbose=0)
    _assert_same_weights(ours, theirs)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("built", [False, True], ids=["unbuilt", "built"])
def test_averages_that_were_never_made_are_not_left_in_the_model(built, scaled):
    def stop(epoch, logs):
        raise KeyboardInterrupt

    model = _model()
    optimizer = keras.optimizers.SGD(0.5, use_ema=True)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    step, before = loops.TrainStep(model, LOSS, optimizer), _weights(model)
    if built:
        optimizer.build(model.trainable_variables)
    history = loops.train(
        step, _data(), epochs=2, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=stop)]
    )
    assert history.epoch == []
    for weight, old in zip(_weights(model), before):
        np.testing.assert_array_equal(weight, old)


def test_skipped_steps_are_in_no_mean():
    x = X.copy()
    x[6] = np.nan
    step = _step(on_nonfinite="skip")
    history = loops.train(step, _data(x), epochs=1).history
    assert int(step.optimizer.iterations.numpy()) == 4
    rest = np.r_[0:5, 10:22]
    reference = loops.train(_step(), _data(X[rest], Y[rest]), epochs=1).history
    np.testing.assert_allclose(history["loss"], reference["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["accuracy"], reference["accuracy"], rtol=1e-5)


def test_metrics_with_state_do_not_see_a_skipped_step():
    x = X.copy()
    x[6] = np.nan
    metric = keras.metrics.SparseCategoricalCrossentropy(name="entropy")
    step = _step(on_nonfinite="skip", metrics=[metric])
    history = loops.train(step, _data(x), epochs=1).history
    np.testing.assert_allclose(history["entropy"], history["loss"], rtol=1e-5)


def test_an_epoch_of_skipped_steps_has_logs():
    step = _step(on_nonfinite="skip")
    history = loops.train(step, _data(np.full_like(X, np.nan)), epochs=2)
    assert all(np.isnan(history.history[name]).tolist() == [True, True] for name in ("loss", "accuracy"))
