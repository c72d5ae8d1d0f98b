"""The loop on the device: what it runs, records and leaves when something ends it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device.device_loop import DeviceLoop
from gradloop.loops.device.row_buffer import CAPACITY, LAST_CALL


class Adder:
    """A step that adds the batch's sum to a variable and counts draws of a state of its own."""

    def __init__(self, one_thread=False):
        self.total = tf.Variable(0.0)
        self.draws = tf.Variable(0)
        self.count = tf.Variable(0, dtype=tf.int64)
        self.loop = DeviceLoop(self.body, 2, one_thread, self.forward, self.count)

    def body(self, batch):
        batch = tf.cast(batch, tf.float32)
        heavy = tf.reduce_sum(tf.linalg.matmul(tf.ones([64, 64]), tf.ones([64, 64]))) * 0.0
        self.draws.assign_add(1)
        self.total.assign_add(tf.reduce_sum(batch) + heavy)
        return [tf.reduce_sum(batch), tf.reduce_max(batch)]

    def forward(self, batch):
        return batch


@pytest.fixture(params=[False, True], ids=["default", "one thread"])
def adder(request):
    return Adder(request.param)


def nothing():
    pass


def test_a_dataset_of_unknown_length_ends_exactly(adder):
    data = tf.data.Dataset.range(7).filter(lambda _: True).batch(1)
    for _ in range(10):
        adder.total.assign(0.0)
        adder.draws.assign(0)
        rows = adder.loop.run_many(iter(data), 10, nothing)
        assert rows[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
        assert float(adder.total) == 21.0
        assert int(adder.draws) == 7, "a step that had no batch must not draw random numbers"
    assert adder.loop.traces == 1


def test_an_ended_iterator_gives_no_rows(adder):
    iterator = iter(tf.data.Dataset.range(2).batch(1))
    assert len(adder.loop.run_many(iterator, 2, nothing)) == 2
    assert adder.loop.run_many(iterator, 2, nothing).shape == (0, 2)


def test_the_iterator_moves_by_the_steps_that_ran(adder):
    data = loops.Batches(np.arange(10), None, 3, shuffle=False)
    iterator = iter(data)
    assert adder.loop.run_many(iterator, 2, nothing)[:, 1].tolist() == [2, 5]
    assert iterator.position == 2
    assert adder.loop.run_many(iterator, 9, nothing)[:, 1].tolist() == [8, 9]
    assert iterator.remaining == 0
    assert adder.loop.run_many(iterator, 1, nothing).shape == (0, 2)


def test_rows_of_an_earlier_call_do_not_show(adder):
    data = tf.data.Dataset.range(5).batch(1)
    assert len(adder.loop.run_many(iter(data), 5, nothing)) == 5
    assert len(adder.loop.run_many(iter(data), 2, nothing)) == 2
    assert len(adder.loop.rows) == 2


def test_no_rows_before_the_first_call(adder):
    assert adder.loop.rows.shape == (0, 2)


def test_the_check_comes_before_anything_runs(adder):
    def refuse():
        raise ValueError("not this")

    with pytest.raises(ValueError, match="not this"):
        adder.loop.run_many(iter(tf.data.Dataset.range(5).batch(1)), 5, refuse)
    with pytest.raises(ValueError, match="not this"):
        adder.loop.run_one(tf.constant([1.0]), refuse)
    assert float(adder.total) == 0.0


class Draws(Adder):
    """A step that reads an iterator of its own, as one over unlabelled data does."""

    def __init__(self, one_thread, batches):
        super().__init__(one_thread)
        self.other = iter(tf.data.Dataset.range(batches))

    def body(self, batch):
        with tf.control_dependencies([batch]):
            return super().body(batch + next(self.other))


@pytest.mark.parametrize("one_thread", [False, True], ids=["default", "one thread"])
@pytest.mark.parametrize("arrays", [False, True], ids=["dataset", "arrays"])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_data_that_ends_inside_of_the_step_is_an_error(left, arrays, one_thread):
    loop, data = Draws(one_thread, left).loop, tf.data.Dataset.range(3).batch(1)
    iterator = iter(loops.Batches(np.arange(3), None, 1) if arrays else data)
    with pytest.raises(tf.errors.OutOfRangeError, match="End of sequence"):
        loop.run_many(iterator, 3, nothing)
    assert len(loop.rows) == left
    if arrays:
        assert iterator.position == left
    with pytest.raises(tf.errors.OutOfRangeError, match="End of sequence"):
        loop.run_one(tf.constant([1], tf.int64), nothing)


@pytest.mark.parametrize("fails_at", [0, 2])
def test_data_that_ends_inside_of_a_transformation_is_an_error(adder, fails_at):
    queue = tf.queue.FIFOQueue(9, [tf.int64], [[]])
    queue.enqueue_many([tf.zeros([fails_at], tf.int64)])
    queue.close()
    data = tf.data.Dataset.range(3).filter(lambda _: queue.dequeue() == 0).batch(1)
    with pytest.raises(tf.errors.OpError, match="is closed and has insufficient elements"):
        adder.loop.run_many(iter(data), 3, nothing)
    assert len(adder.loop.rows) == fails_at


@pytest.mark.parametrize("error", [tf.errors.InvalidArgumentError, KeyboardInterrupt])
def test_a_call_that_fails_at_once_moves_nothing(adder, error, monkeypatch):
    iterator = iter(loops.Batches(np.arange(10), None, 2, shuffle=False))
    adder.loop.run_many(iterator, 3, nothing)

    def fail(one_thread):
        raise error(None, None, "at once") if error is not KeyboardInterrupt else error

    monkeypatch.setattr("gradloop.loops.device.device_loop.executor", fail)
    with pytest.raises(error):
        adder.loop.run_many(iterator, 2, nothing)
    assert iterator.position == 3 and int(adder.count) == 3
    assert adder.loop.rows.shape == (0, 2)


def test_calls_are_numbered_past_what_float32_counts(adder, monkeypatch):
    assert np.float32(LAST_CALL) != np.float32(LAST_CALL - 1)
    monkeypatch.setattr("gradloop.loops.device.row_buffer.LAST_CALL", 2)
    data = tf.data.Dataset.range(3).batch(1)
    for steps in (3, 2, 3, 2, 3):
        assert len(adder.loop.run_many(iter(data), steps, nothing)) == steps


def test_steps_are_counted(adder):
    batches, data = loops.Batches(np.arange(10), None, 3), tf.data.Dataset.range(2).batch(1)
    adder.loop.run_many(iter(batches), 3, nothing)
    adder.loop.run_many(iter(data), 9, nothing)
    adder.loop.run_one(tf.constant([1.0]), nothing)
    assert int(adder.count) == 6


def test_one_batch_and_open_shapes(adder):
    assert adder.loop.run_one(tf.constant([1.0, 2.0]), nothing).numpy().tolist() == [3.0, 2.0]
    assert adder.loop.run_one(tf.constant([4.0]), nothing).numpy().tolist() == [4.0, 4.0]
    assert adder.loop.traces == 1


def test_more_steps_than_the_capacity():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    step = loops.EvalStep(model, "mse")
    data = tf.data.Dataset.from_tensors((np.ones(1), np.ones(1))).batch(1).repeat()
    values = step.run(iter(data), CAPACITY + 3)
    assert len(values["loss"]) == CAPACITY + 3
    assert len(set(values["loss"].tolist())) == 1
