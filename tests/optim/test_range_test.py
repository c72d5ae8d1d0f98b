"""The range test beside its formulas, and everything as before once it is over."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.optim import lr_range_test

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype("float32")
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype("int64")


def quadratic(curvature=4.0, optimizer=None):
    """Minimises `curvature / 2 * w ** 2` from w = 1, whatever the data."""
    model = keras.Sequential([keras.Input((1,)), L.Dense(1, use_bias=False, kernel_initializer="ones")])

    def loss(model, batch):
        return curvature / 2 * tf.reduce_sum(model.weights[0] ** 2) + 0 * tf.reduce_sum(batch[0])

    return loops.TrainStep(model, loss, optimizer or keras.optimizers.SGD(0.123))


def ones(count=4, size=2):
    return loops.Batches(np.ones((count, 1)), None, size)


def busy_step(optimizer, **options):
    """A step with everything that one may write: statistics, seeds, a metric with state, sums."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(8, name="hidden"),
            L.BatchNormalization(),
            L.Dropout(0.2, seed=1),
            L.Dense(1, "sigmoid", name="head", dtype="float32"),
        ]
    )
    metrics = ["accuracy", keras.metrics.AUC(name="auc")]
    return loops.TrainStep(model, "binary_crossentropy", optimizer, metrics=metrics, **options)


def snapshot(step):
    return {name: variable.numpy().tobytes() for name, variable in step.state().items()}


@contextlib.contextmanager
def nothing_changes(step):
    before, rate = snapshot(step), step.optimizer.learning_rate.numpy()
    yield
    after = snapshot(step)
    assert list(after) == list(before)
    assert [name for name in after if after[name] != before[name]] == []
    assert step.optimizer.learning_rate.numpy() == rate


# The curve.


def test_the_curve_of_a_quadratic_by_hand():
    curvature, points = 4.0, 100
    curve = lr_range_test(quadratic(curvature), ones(), 1e-4, 10.0, points)
    weight, mean, best = 1.0, 0.0, np.inf
    losses, smoothed = [], []
    for step, rate in enumerate(1e-4 * 1e5 ** (np.arange(points) / (points - 1))):
        losses.append(curvature / 2 * weight**2)
        weight -= rate * curvature * weight
        # Gugger, "How do you find a good learning rate": the loop of his notebook.
        mean = 0.98 * mean + 0.02 * losses[-1]
        smoothed.append(mean / (1 - 0.98 ** (step + 1)))
        if step > 0 and smoothed[-1] > 4 * best:
            break
        best = min(best, smoothed[-1])
    assert 10 < len(losses) < points  # it diverged, and the test ended there
    np.testing.assert_allclose(curve.losses, losses, rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(curve.smoothed, smoothed, rtol=1e-3)
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-4, 10.0, points)[: len(losses)])


@pytest.mark.parametrize("curvature", [0.1, 1.0, 100.0])
def test_the_suggestion_scales_with_the_best_rate(curvature):
    # A step at 1 / curvature lands in the minimum; from 2 / curvature on it diverges.
    curve = lr_range_test(quadratic(curvature), ones(), 1e-4 / curvature, 10 / curvature)
    assert 0.02 / curvature < curve.suggestion < 1 / curvature
    assert curve.suggestion in curve.rates


def test_a_range_without_divergence_runs_to_its_end():
    curve = lr_range_test(quadratic(), ones(), 1e-5, 1e-2, steps=20)
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) == 20
    assert (curve.rates[0], curve.rates[-1]) == pytest.approx((1e-5, 1e-2))
    assert curve.rates.dtype == curve.losses.dtype == curve.smoothed.dtype == np.float64


def test_each_rate_is_the_one_that_its_batch_trains_at():
    rates = []

    class Watched(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            tf.py_function(lambda rate: rates.append(float(rate)), [learning_rate], [])
            super().update_step(gradient, variable, learning_rate)

    curve = lr_range_test(quadratic(optimizer=Watched(0.5)), ones(), 1e-3, 1e-1, 7)
    np.testing.assert_allclose(rates, np.geomspace(1e-3, 1e-1, 7), rtol=1e-6)
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-3, 1e-1, 7))


def test_a_loss_below_zero_is_no_divergence():
    # Four times the best of -1 is -4, and every loss is above that.
    model = quadratic().model
    step = loops.TrainStep(model, lambda model, x: tf.reduce_sum(model.weights[0] ** 2 + 0 * x) - 3, "sgd")
    curve = lr_range_test(step, ones(), 1e-4, 1e-1, 20)
    assert len(curve.losses) == 20 and curve.losses.max() < 0


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip", "ignore"])
def test_ends_where_the_loss_is_not_finite(on_nonfinite):
    step = busy_step(keras.optimizers.SGD(0.1), on_nonfinite=on_nonfinite)
    x = np.concatenate([X[:5], np.full((1, 6), np.nan, "float32")])
    data = loops.Batches(x, Y[:6], 1, shuffle=False)
    with nothing_changes(step):
        curve = lr_range_test(step, data, 1e-6, 1e-3, 20)
    assert len(curve.losses) == 5 and np.isfinite(curve.losses).all()


def test_a_loss_that_is_never_finite():
    x = np.full((4, 6), np.nan, "float32")
    step = busy_step(keras.optimizers.SGD(0.1))
    with nothing_changes(step), pytest.raises(loops.NonFiniteError, match="inputs of this batch hold"):
        lr_range_test(step, loops.Batches(x, Y[:4], 2))
    step = busy_step(keras.optimizers.SGD(0.1), on_nonfinite="ignore")
    with nothing_changes(step), pytest.raises(ValueError, match="not finite at the rate 1e-07 already"):
        lr_range_test(step, loops.Batches(x, Y[:4], 2))


# Everything as before.

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(1e-3, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(1e-3, weight_decay=0.1, clipnorm=1.0),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-3, momentum=0.5, centered=True),
    "averaged": lambda: keras.optimizers.Adam(1e-3, use_ema=True),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3)),
}


@pytest.mark.parametrize("started", [False, True], ids=["fresh", "started"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_state_is_bit_identical_afterwards(name, started):
    step, data = busy_step(OPTIMIZERS[name]()), loops.Batches(X, Y, 8)
    if started:
        step.run(iter(data), 3)
    epoch = data.epoch
    with nothing_changes(step):
        curve = lr_range_test(step, data, 1e-5, 1e-1, 12)
    assert len(curve.losses) >= 3 and data.epoch == epoch


def test_mixed_float16_and_accumulation():
    keras.config.set_dtype_policy("mixed_float16")
    step, data = busy_step(keras.optimizers.Adam(1e-3), accumulate=3, clip_norm=1.0), loops.Batches(X, Y, 8)
    assert isinstance(step.optimizer, keras.optimizers.LossScaleOptimizer)
    step.run(iter(data), 4)  # one batch is summed, not applied yet
    with nothing_changes(step):
        lr_range_test(step, data, 1e-5, 1e-1, 10)


def test_groups_keep_their_proportions_and_their_state():
    step = busy_step("sgd")
    groups = {
        "base": optim.Group("hidden", lr_scale=0.1),
        "norm": optim.Group(L.BatchNormalization, learning_rate=1e-3),
        "head": optim.Group("head"),
    }
    plan = optim.partition(step.model, groups)
    grouped = optim.GroupedOptimizer(keras.optimizers.Adam(1e-2), plan)
    step = loops.TrainStep(step.model, "binary_crossentropy", grouped)
    data, real, rates = loops.Batches(X, Y, 8), step.run, []

    def run(iterator, steps):
        rates.append({name: float(rate) for name, rate in grouped.learning_rates.items()})
        return real(iterator, steps)

    step.run = run
    with nothing_changes(step):
        lr_range_test(step, data, 1e-4, 1e-2, 3)
    expected = [{"base": rate / 10, "norm": 1e-3, "head": rate} for rate in (1e-4, 1e-3, 1e-2)]
    assert rates == [pytest.approx(each, rel=1e-6) for each in expected]


def losses_of_a_run(test):
    """Two epochs, with something done in the middle of the first."""
    keras.utils.set_random_seed(7)
    step, data = busy_step(keras.optimizers.Adam(1e-2), accumulate=2), loops.Batches(X, Y, 8, seed=3)
    iterator = iter(data)
    found = [step.run(iterator, 3)]
    test(step, data, iterator)
    found += [step.run(iterator, 2), step.run(iter(data), 5)]
    return [values[name].tolist() for values in found for name in ("loss", "accuracy", "auc")]


@pytest.mark.parametrize("source", ["batches", "iterator"])
def test_training_goes_on_as_if_nothing_had_been_tested(source):
    def test(step, data, iterator):
        lr_range_test(step, data if source == "batches" else iterator, 1e-6, 1.0, 20)

    assert losses_of_a_run(test) == losses_of_a_run(lambda *_: None)


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted, ValueError])
def test_all_is_restored_when_an_error_passes_through(error, monkeypatch):
    step, data = busy_step(keras.optimizers.Adam(1e-3)), loops.Batches(X, Y, 8)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40, seed=0).batch(4)
    iterator = iter(dataset)
    step.run(iter(data), 2)
    real, calls = step.run, []

    def fails_later(iterator, steps):
        result = real(iterator, steps)
        calls.append(steps)
        if len(calls) % 4 == 0:
            raise error("stop")
        return result

    monkeypatch.setattr(step, "run", fails_later)
    for source in (data, iterator):
        with nothing_changes(step), pytest.raises(error, match="stop"):
            lr_range_test(step, source, 1e-4, 1e-1, 30)
    assert calls == [1] * 8 and data.epoch == 1
    assert len(list(iterator)) == 10


# The data.


def seen(step, monkeypatch):
    """The places in `Batches`, (epoch, position), of the steps that run."""
    places, real = [], step.run

    def run(iterator, steps):
        places.append((iterator.epoch, iterator.position))
        return real(iterator, steps)

    monkeypatch.setattr(step, "run", run)
    return places


def test_batches_are_read_from_the_next_epoch_and_again_when_they_end(monkeypatch):
    step, data = quadratic(), ones(6)
    places = seen(step, monkeypatch)
    list(data)
    lr_range_test(step, data, 1e-5, 1e-3, 5)
    assert places == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)] and data.epoch == 1


@pytest.mark.parametrize("read", [1, 3])
def test_an_iterator_of_batches_is_read_from_its_place_and_stays_there(read, monkeypatch):
    step, data = quadratic(), ones(6)
    places = seen(step, monkeypatch)
    iterator = data.iterator(4, read)
    lr_range_test(step, iterator, 1e-5, 1e-3, 4)
    every = [(4 + number // 3, number % 3) for number in range(read, read + 4)]
    assert places == every
    assert (iterator.epoch, iterator.position, data.epoch) == (4, read, 0)


def numbers(shuffle=False):
    dataset = tf.data.Dataset.range(6).map(lambda n: (tf.cast(n, tf.float32)[None], tf.cast(n, tf.float32)))
    return (dataset.shuffle(6, seed=5) if shuffle else dataset).batch(1)


def read(iterator, count):
    return [float(next(iterator)[1][0]) for _ in range(count)]


def test_a_dataset_begins_anew_when_it_ends():
    step = loops.TrainStep(
        quadratic().model, lambda model, batch: tf.reduce_sum(batch[1] + 0 * model.weights[0]), "sgd"
    )
    with nothing_changes(step):
        curve = lr_range_test(step, numbers(), 1e-5, 1e-3, 10)
    assert curve.losses[:6].tolist() == [0, 1, 2, 3, 4, 5][: len(curve.losses)]


def test_an_iterator_of_a_dataset_goes_on_where_it_was():
    dataset, twin = numbers(shuffle=True), iter(numbers(shuffle=True))
    iterator = iter(dataset)
    assert read(iterator, 2) == read(twin, 2)
    lr_range_test(quadratic(), iterator, 1e-5, 1e-3, 3)
    assert read(iterator, 4) == read(twin, 4)


def test_an_iterator_of_a_dataset_that_is_too_short():
    iterator, step = iter(numbers()), quadratic()
    with nothing_changes(step), pytest.raises(ValueError, match="`iterator` has no batch left"):
        lr_range_test(step, iterator, 1e-5, 1e-3, 7)
    assert read(iterator, 6) == [0, 1, 2, 3, 4, 5]


def test_a_reshuffling_dataset_counts_the_test_as_an_iteration():
    def orders(dataset):
        return [read(iter(dataset), 6) for _ in range(3)]

    untouched, tested = orders(numbers(shuffle=True)), numbers(shuffle=True)
    lr_range_test(quadratic(), tested, 1e-5, 1e-3, 4)
    assert orders(tested)[:2] == untouched[1:]


def test_an_iterator_that_cannot_be_saved():
    spec = (tf.TensorSpec((1,)), tf.TensorSpec(()))
    dataset = tf.data.Dataset.from_generator(lambda: iter([([1.0], 1.0)] * 5), output_signature=spec).batch(1)
    step = quadratic()
    with pytest.raises(ValueError, match="cannot save, so the test could not put it back .*stateful"):
        lr_range_test(step, iter(dataset), 1e-5, 1e-3, 3)
    assert len(lr_range_test(step, dataset, 1e-5, 1e-3, 8).losses) == 8


@pytest.mark.parametrize("bad", [(X, Y), X, iter([X]), None])
def test_data_of_another_type(bad):
    with pytest.raises(TypeError, match="`data` must be a `loops.Batches`, a `tf.data.Dataset` or an iter"):
        lr_range_test(quadratic(), bad)


def test_empty_data():
    with pytest.raises(ValueError, match="`data` is empty"):
        lr_range_test(quadratic(), numbers().take(0))


# The arguments.

REFUSED = [
    ({"lowest": 0.0}, ValueError, "`lowest` must be a finite number above 0, got 0"),
    ({"lowest": float("nan")}, ValueError, "`lowest` must be a finite number above 0, got nan"),
    ({"lowest": True}, TypeError, "`lowest` must be a number above 0, got True"),
    ({"highest": float("inf")}, ValueError, "`highest` must be a finite number above 0, got inf"),
    ({"lowest": 0.1, "highest": 0.1}, ValueError, "`lowest` 0.1 must be below `highest` 0.1"),
    ({"lowest": 0.2, "highest": 0.1}, ValueError, "`lowest` 0.2 must be below `highest` 0.1"),
    ({"steps": 2}, ValueError, "`steps` must be at least 3, got 2"),
    ({"steps": 10.0}, TypeError, "`steps` must be a whole number of at least 3, got 10.0"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        lr_range_test(quadratic(), ones(), **arguments)


@pytest.mark.parametrize("bad", [None, "step", keras.optimizers.SGD(0.1)])
def test_a_step_that_is_none(bad):
    with pytest.raises(TypeError, match="`step` must be a training step, such as a `loops.TrainStep`"):
        lr_range_test(bad, ones())


@pytest.mark.parametrize(
    "rate", [keras.optimizers.schedules.CosineDecay(0.1, 10), lambda: 0.1], ids=["schedule", "function"]
)
@pytest.mark.parametrize("wrap", [lambda o: o, keras.optimizers.LossScaleOptimizer], ids=["bare", "scaled"])
def test_a_rate_that_cannot_be_set(rate, wrap):
    step = quadratic(optimizer=wrap(keras.optimizers.SGD(rate)))
    with pytest.raises(TypeError, match="`learning_rate` cannot be set, since it is a schedule or a func"):
        lr_range_test(step, ones())
