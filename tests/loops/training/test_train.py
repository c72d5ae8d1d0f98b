"""train: whole runs against `model.fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers


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
        self.hits.assign_add(tf.reduce_sum(tf.cast(tf.math.in_top_k(y, predictions, self.k), tf.float32)))
        self.count.assign_add(tf.cast(tf.size(y), tf.float32))

    def result(self):
        return self.hits / self.count


@pytest.mark.parametrize(
    "kind",
    [
        "weighted",
        "generator",
        *(pytest.param(kind, marks=pytest.mark.long) for kind in ("batches", "dataset")),
    ],
)
def test_history_is_that_of_fit(problem, assert_same_weights, assert_same_logs, kind):
    reference, step = problem.model(), problem.step()
    reference.compile(keras.optimizers.SGD(0.1), problem.loss, weighted_metrics=["accuracy"])
    x, y, weight = problem.x, problem.y, problem.weight
    fit = {"validation_data": (x[:7], y[:7]), "validation_batch_size": 5, "epochs": 3, "verbose": 0}
    if kind == "weighted":
        expected = reference.fit(x, y, 5, shuffle=False, sample_weight=weight, **fit)
    else:
        expected = reference.fit(x, y, 5, shuffle=False, **fit)
    data = {
        "batches": problem.data,
        "weighted": lambda: problem.data(sample_weight=weight),
        "dataset": problem.dataset,
        "generator": problem.generated,
    }[kind]()
    history = loops.train(step, data, epochs=3, validation=problem.data(x[:7], y[:7]))
    assert_same_logs(history, expected)
    assert_same_weights(step.model, reference, 2e-6)
    assert step.traces == 1 and history.epoch == [0, 1, 2]


@pytest.mark.parametrize("kind", ["data", pytest.param("dataset", marks=pytest.mark.long), "generated"])
def test_one_step_a_call_or_many_is_the_same(problem, assert_same_weights, assert_same_logs, kind):
    data = getattr(problem, kind)
    many, each = problem.step(), problem.step()
    slow, fast = Reader(), Reader()
    one = loops.train(many, data(), epochs=3, callbacks=[fast])
    other = loops.train(each, data(), epochs=3, callbacks=[slow, Every()])
    # Data of unknown length goes batch by batch through another graph, whose sums may round otherwise.
    exact = kind != "generated"
    assert_same_weights(many.model, each.model, 0.0 if exact else 1e-6)
    assert_same_logs(one, other, 1e-7 if exact else 1e-5)
    assert fast.numbers == slow.numbers == list(range(1, 16))
    np.testing.assert_allclose(fast.losses, slow.losses, rtol=0.0 if exact else 1e-5)


def test_endless_and_rolling_data(problem, assert_same_weights, assert_same_logs):
    endless, rolling = problem.step(), problem.step()
    one = loops.train(endless, problem.dataset().repeat(), epochs=2, steps_per_epoch=7)
    other = loops.train(rolling, problem.dataset(), epochs=np.int64(2), steps_per_epoch=7)
    assert_same_logs(one, other, 1e-7)
    assert_same_weights(endless.model, rolling.model, 0.0)
    assert int(endless.optimizer.iterations.numpy()) == 14


@pytest.mark.numbers("float32")  # TensorFlow has no other top k; the runs are the same, bit for bit
def test_validation_leaves_training_alone(problem, assert_same_weights):
    metrics = lambda: [TopK(k=2), keras.metrics.MeanMetricWrapper(lambda y, p: p[:, 0], "p")]  # noqa: E731
    plain, step = problem.step(metrics=metrics()), problem.step(metrics=metrics())
    shuffled = [loops.Batches(problem.x, problem.y, 5, seed=4) for _ in range(2)]
    expected = loops.train(plain, shuffled[0], epochs=3)
    history = loops.train(step, shuffled[1], epochs=3, validation=shuffled[1])
    for name, values in expected.history.items():
        assert history.history[name] == values
    assert_same_weights(step.model, plain.model, 0.0)
    assert shuffled[1].epoch == 3
    for metric in step.metrics:
        assert float(metric.result()) == pytest.approx(history.history[metric.name][-1])
    top = tf.math.in_top_k(problem.y, step.model(problem.x, training=False), 2)
    assert history.history["val_top"][-1] == pytest.approx(np.mean(top))


ARRAYS = np.zeros((10, 4), "float32"), np.zeros(10, "int64")
DATASET = tf.data.Dataset.from_tensor_slices(ARRAYS).batch(5)


@pytest.mark.parametrize(
    "arguments, error, match",
    [
        ({"step": "x"}, TypeError, "`step` must be a `loops.TrainStep`, not 'x'"),
        ({"epochs": 0}, ValueError, "`epochs` must be at least 1, got 0"),
        ({"epochs": True}, TypeError, "`epochs` must be a whole number of at least 1, got True"),
        ({"epochs": 1.5}, TypeError, "`epochs` must be .* got 1.5"),
        ({"steps_per_epoch": 0}, ValueError, "`steps_per_epoch` must be .* got 0"),
        ({"data": ARRAYS}, TypeError, "`data` must be a `loops.Batches`"),
        ({"validation": ARRAYS}, TypeError, "`validation` must be a `loops.Batches`"),
        ({"data": DATASET.repeat()}, ValueError, "`data` has no end: .* `steps_per_epoch=...`"),
        ({"validation": DATASET.repeat()}, ValueError, "`validation` has no end: .* `dataset.take"),
        ({"data": DATASET.take(0)}, ValueError, "`data` is empty"),
        ({"callbacks": keras.callbacks.History()}, TypeError, "`callbacks` must be a list or tuple"),
        ({"callbacks": None}, TypeError, "`callbacks` must be a list or tuple, not None"),
        ({"callbacks": [print]}, TypeError, "`callbacks` holds <.*print>, which is no"),
        ({"callbacks": [keras.callbacks.History]}, TypeError, "`callbacks` holds <class"),
    ],
)
def test_bad_arguments(problem, arguments, error, match):
    step = loops.TrainStep(problem.model(), problem.loss, "sgd")
    given = {"step": step, "data": problem.data(), "epochs": 1, **arguments}
    with pytest.raises(error, match=match):
        loops.train(given.pop("step"), given.pop("data"), **given)


def test_a_loss_function_that_cannot_evaluate(problem):
    step = loops.TrainStep(problem.model(), lambda model, batch: tf.reduce_mean(model(batch[0])), "sgd")
    with pytest.raises(ValueError, match="without a parameter `training`"):
        loops.train(step, problem.data(), epochs=1, validation=problem.data())
    assert not step.optimizer.built


def test_averaged_weights_are_left_in_the_model_as_fit_does(problem, assert_same_weights):
    def optimizer():
        return keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8)

    ours, theirs = problem.model(), problem.model()
    loops.train(loops.TrainStep(ours, problem.loss, optimizer()), problem.data(), epochs=2)
    theirs.compile(optimizer(), problem.loss)
    theirs.fit(problem.dataset(), shuffle=False, epochs=2, verbose=0)
    assert_same_weights(ours, theirs)


@pytest.mark.parametrize(
    "built, scaled",
    [
        *((False, True), (True, False)),
        *(pytest.param(both, both, marks=pytest.mark.release) for both in (False, True)),
    ],
)
def test_averages_that_were_never_made_are_not_left_in_the_model(problem, built, scaled):
    def stop(epoch, logs):
        raise KeyboardInterrupt

    model = problem.model()
    optimizer = keras.optimizers.SGD(0.5, use_ema=True)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    step, before = loops.TrainStep(model, problem.loss, optimizer), model.get_weights()
    if built:
        optimizer.build(model.trainable_variables)
    history = loops.train(
        step, problem.data(), epochs=2, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=stop)]
    )
    assert history.epoch == []
    for weight, old in zip(model.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_skipped_steps_are_in_no_mean(problem):
    x = problem.x.copy()
    x[6] = np.nan
    step = problem.step(on_nonfinite="skip")
    history = loops.train(step, problem.data(x), epochs=1).history
    assert int(step.optimizer.iterations.numpy()) == 4
    rest = np.r_[0:5, 10:22]
    reference = loops.train(problem.step(), problem.data(problem.x[rest], problem.y[rest]), epochs=1).history
    np.testing.assert_allclose(history["loss"], reference["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["accuracy"], reference["accuracy"], rtol=1e-5)
    assert history["skipped"] == [1.0] and "skipped" not in reference


def test_metrics_with_state_do_not_see_a_skipped_step(problem):
    x = problem.x.copy()
    x[6] = np.nan
    metric = keras.metrics.SparseCategoricalCrossentropy(name="entropy")
    step = problem.step(on_nonfinite="skip", metrics=[metric])
    history = loops.train(step, problem.data(x), epochs=1).history
    np.testing.assert_allclose(history["entropy"], history["loss"], rtol=1e-5)


def test_an_epoch_of_skipped_steps_has_logs(problem):
    step = problem.step(on_nonfinite="skip")
    history = loops.train(step, problem.data(np.full_like(problem.x, np.nan)), epochs=2)
    assert all(np.isnan(history.history[name]).tolist() == [True, True] for name in ("loss", "accuracy"))
    assert history.history["skipped"] == [5.0, 5.0]
