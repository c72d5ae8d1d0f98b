"""`tf.summary` in steps: what a file holds, read back by TensorBoard's own reader."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gradloop import loops, optim

X = np.arange(12, dtype="float32")[:, None]


class Summing(keras.layers.Layer):
    def call(self, x):
        tf.summary.scalar("layer", tf.reduce_sum(x))
        return x


def loss(model, batch):
    outputs = model(batch[0], training=True)
    number = tf.summary.experimental.get_step()
    with tf.summary.record_if(lambda: tf.equal(number % 2, 0)):
        tf.summary.scalar("even", tf.cast(number, tf.float32))
        tf.summary.histogram("histogram", outputs)
        tf.summary.image("image", tf.ones([1, 2, 2, 1]))
    return loops.mean_loss(outputs)


def plain(model, batch):
    return loops.mean_loss(model(batch[0], training=True))


def network():
    return keras.Sequential([keras.Input((1,), name="in"), Summing(name="sum"), keras.layers.Dense(1)])


@pytest.fixture
def written(tmp_path):
    """Runs a function with a default writer; returns tag -> steps and, of scalars, values."""

    def run(function):
        writer = tf.summary.create_file_writer(str(tmp_path))
        with writer.as_default():
            function()
        writer.close()
        events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()

        def value(event):
            array = tf.make_ndarray(event.tensor_proto)
            return float(array) if array.shape == () and array.dtype.kind == "f" else None

        def name(tag):
            return ("validation/" if tag.startswith("validation/") else "") + tag.rpartition("/")[2]

        return {
            name(tag): [(event.step, value(event)) for event in events.Tensors(tag)]
            for tag in events.Tags()["tensors"]
        }

    return run


@pytest.mark.parametrize("eagerly", [False, True])
def test_each_lands_at_its_step(written, eagerly):
    step = loops.TrainStep(network(), loss, keras.optimizers.SGD(0.1))

    def run():
        step.run(iter(loops.Batches(X, None, 2, shuffle=False)), 4)
        step(X[:2])
        assert tf.summary.experimental.get_step() is None

    tf.config.run_functions_eagerly(eagerly)
    try:
        found = written(run)
    finally:
        tf.config.run_functions_eagerly(False)
    assert found["layer"] == [(1, 1.0), (2, 5.0), (3, 9.0), (4, 13.0), (5, 1.0)]
    assert found["even"] == [(2, 2.0), (4, 4.0)]
    assert found["histogram"] == found["image"] == [(2, None), (4, None)]


def test_a_step_that_was_set_stays(written):
    step = loops.TrainStep(network(), plain, keras.optimizers.SGD(0.1))

    def run():
        number = tf.Variable(10, dtype=tf.int64)
        tf.summary.experimental.set_step(number)
        try:
            step.run(iter(loops.Batches(X, None, 6)), 2)
            assert tf.summary.experimental.get_step() is number
        finally:
            tf.summary.experimental.set_step(None)

    assert [number for number, _ in written(run)["layer"]] == [10, 10]


def test_a_range_test_writes_nothing(written):
    step, data = loops.TrainStep(network(), plain, keras.optimizers.SGD(0.1)), loops.Batches(
        X, None, 6, shuffle=False
    )

    def run():
        optim.lr_range_test(step, data, 1e-6, 1e-5, steps=3)
        step.run(iter(data), 2)

    assert written(run)["layer"] == [(1, 15.0), (2, 51.0)]


def test_validation_writes_beside_training(written):
    def outputs(model, batch, training=True):
        return loops.mean_loss(model(batch[0], training=training))

    step = loops.TrainStep(network(), outputs, keras.optimizers.SGD(0.1))
    data, validation = (loops.Batches(X, None, 4, shuffle=False) for _ in range(2))
    found = written(lambda: loops.train(step, data, epochs=2, validation=validation) and None)
    assert found["layer"] == [(n, value) for n, value in zip(range(1, 7), [6.0, 22.0, 38.0] * 2)]
    assert found["validation/layer"] == [(n + 3, value) for n, value in found["layer"]]


def test_checks_that_are_traced_and_never_run_write_nothing(written):
    """Those of a metric that makes its variables later, and of the model's shapes for another length."""
    inputs = keras.Input((None, 1))
    outputs = keras.layers.Dense(1)(Summing(name="sum")(inputs))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(outputs))
    step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1), metrics=[keras.metrics.R2Score()])

    def run():
        for length in (2, 3, 2):
            step(np.ones((2, length, 1), "float32"), np.ones((2, 1), "float32"))

    assert written(run)["layer"] == [(1, 4.0), (2, 6.0), (3, 4.0)] and step.traces == 2


@pytest.mark.parametrize("own", [False, True])
def test_each_writer_has_what_runs_while_it_is_the_default(own, tmp_path):
    """A step that was traced without a writer, or with another, is traced again; one of none is not."""
    step = loops.TrainStep(network(), plain, keras.optimizers.SGD(0.1))
    dense = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    plain_step = loops.TrainStep(dense, plain, keras.optimizers.SGD(0.1))
    count = tf.Variable(0, dtype=tf.int64)

    @loops.replicated
    def given(x):
        tf.summary.scalar("layer", tf.reduce_sum(x), step=count.assign_add(1))
        return x

    call = given if own else step
    call(X[:2])
    plain_step(X[:2])
    for name in ("a", "b", "a"):
        writer = tf.summary.create_file_writer(str(tmp_path / name))
        with writer.as_default():
            call(X[:2])
            plain_step(X[:2])
        writer.close()
    call(X[:2])
    for name, numbers in (("a", [2, 4]), ("b", [3])):
        events = EventAccumulator(str(tmp_path / name), size_guidance={"tensors": 0}).Reload()
        (tag,) = events.Tags()["tensors"]
        assert sorted(event.step for event in events.Tensors(tag)) == numbers  # of files of the same second
    assert plain_step.traces == 1


def test_the_default_is_put_back_after_an_error():
    def failing(model, batch):
        assert tf.summary.experimental.get_step() is not None
        raise KeyError("no")

    with pytest.raises(KeyError):
        loops.TrainStep(network(), failing, "sgd")(X)
    assert tf.summary.experimental.get_step() is None


def test_xla_is_refused(written):
    step = loops.TrainStep(network(), plain, keras.optimizers.SGD(0.1), jit_compile=True)
    before = step.model.get_weights()

    def run():
        with pytest.raises(
            ValueError, match="`tf.summary` .* XLA compiles.*: pass `jit_compile=False`, or use `l"
        ):
            step.run(iter(loops.Batches(X, None, 6)), 2)

    assert written(run) == {} and int(step.batches_done) == 0
    np.testing.assert_array_equal(step.model.get_weights()[0], before[0])


def test_a_step_of_ones_own_has_no_number(written):
    model, count = network(), tf.Variable(3, dtype=tf.int64)
    without = loops.replicated(lambda x: model(x))

    @loops.replicated
    def given(x):
        tf.summary.scalar("given", tf.reduce_sum(x), step=count)
        return x

    def run():
        with pytest.raises(
            ValueError, match="`tf.summary` .* no number, .*: pass one, .* or use `loops.record"
        ):
            without(X)
        given(X)

    assert written(run)["given"] == [(3, 66.0)]
