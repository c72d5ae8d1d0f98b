"""The count of batches, as the step itself reads it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device.device_loop import DeviceLoop

pytestmark = pytest.mark.numbers


def nothing():
    pass


class Reader:
    """A step that records the count, or does not look at it, and adds up its batches."""

    def __init__(self, reads=True, replicas=None):
        self.reads, self.count, self.total = reads, tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
        self.loop = DeviceLoop(self.body, 1, False, lambda batch: batch, self.count, replicas)

    def body(self, batch):
        batch = batch if tf.is_tensor(batch) else batch.take(batch.indices)
        total = self.total.assign_add(tf.reduce_sum(tf.cast(batch, tf.float32)))
        return [tf.cast(self.count, tf.float32) if self.reads else total]


def iterator(kind, numbers):
    if kind == "batches":
        return iter(loops.Batches(numbers, None, 2, shuffle=False))
    return iter(tf.data.Dataset.from_tensor_slices(numbers).batch(2))


@pytest.mark.parametrize("kind", ["batches", "dataset", "eagerly"])
def test_it_is_the_number_of_batches_before(kind):
    tf.config.run_functions_eagerly(kind == "eagerly")
    try:
        loop = Reader().loop
        data = iterator(kind, np.arange(12))
        assert loop.run_many(data, 4, nothing)[:, 0].tolist() == [0, 1, 2, 3]
        assert loop.run_one(tf.constant([1, 2]), nothing).numpy().tolist() == [4]
        assert loop.run_many(data, 9, nothing)[:, 0].tolist() == [5, 6]
        assert loop.run_many(data, 9, nothing).shape == (0, 1)
        assert loop.run_one(tf.constant([1, 2]), nothing).numpy().tolist() == [7]
    finally:
        tf.config.run_functions_eagerly(False)


def test_replicas_that_read_their_own_examples():
    loop = Reader(replicas=2).loop
    assert loop.run_many(iterator("batches", np.arange(8)), 9, nothing)[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("reads", [False, True])
def test_a_step_that_does_not_read_it_has_no_operation_for_it(reads):
    reader = Reader(reads)
    traced = []
    get = reader.loop._traces.get
    reader.loop._traces.get = lambda *args, **options: traced.append(get(*args, **options)) or traced[-1]
    for kind in ("batches", "dataset"):
        reader.loop.run_many(iterator(kind, np.arange(4)), 9, nothing)
    used = [any(outer is reader.count.handle for outer, _ in f.graph.captures) for f in traced]
    assert used == [reads, reads] and int(reader.count) == 4


@pytest.mark.parametrize("kind", ["batches", "dataset"])
def test_a_step_that_fails_is_not_counted(kind):
    x = np.arange(12.0).reshape(12, 1)
    x[6] = np.nan  # in the fourth batch
    step = counting_step()
    data = loops.Batches(x, x, 2, shuffle=False)
    data = data if kind == "batches" else tf.data.Dataset.from_tensor_slices((x, x)).batch(2)
    with pytest.raises(loops.NonFiniteError) as error:
        step.run(iter(data), 9)
    assert error.value.records.values()["loss"].tolist() == [0, 1, 2]
    assert int(step.batches_done.numpy()) == 3
    assert float(step(x[:2], x[:2])["loss"]) == 3


def counting_step():
    """A step whose loss is `batches_done`; it is NaN where `x` is."""

    def loss(model, batch):
        zero = 0.0 * tf.reduce_sum(model(batch[0], training=True))
        return zero + tf.cast(step.batches_done, zero.dtype)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    step = loops.TrainStep(model, loss, "sgd")
    return step


def test_a_summary_in_the_step_and_a_rate_by_the_batch(tmp_path):
    """A run, cut and resumed: `w += 1 - 1 / (n + 1)` in batch n, as the gradient is -1."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def made():
        def loss(model, batch):
            weight = tf.reduce_mean(model(batch[0], training=True))
            tf.summary.scalar("weight", weight, step=step.batches_done)
            return -weight

        def rate():
            return 1.0 - 1.0 / (tf.cast(step.batches_done, "float64") + 1.0)

        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((1,)), layer])
        step = loops.TrainStep(model, loss, keras.optimizers.SGD(rate))
        return step

    x = np.ones((10, 1))
    writer = tf.summary.create_file_writer(str(tmp_path / "events"))
    with writer.as_default():
        for epochs in (1, 3):
            step = made()
            loops.train(step, loops.Batches(x, x, 2), epochs=epochs, checkpoint=tmp_path / "run")
    writer.close()
    events = EventAccumulator(str(tmp_path / "events"), size_guidance={"tensors": 0}).Reload()
    found = [(event.step, tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("weight")]
    assert [number for number, _ in found] == [*range(15)]
    batches = np.arange(15)
    right = np.concatenate([[0.0], np.cumsum(1.0 - 1.0 / (batches + 1))])
    np.testing.assert_allclose([value for _, value in found], right[:-1], rtol=1e-6)
    np.testing.assert_allclose(step.model.get_weights()[0], right[-1:, None], rtol=1e-12)
