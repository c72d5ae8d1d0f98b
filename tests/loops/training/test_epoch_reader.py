"""EpochReader: epochs over data of known, unknown and no length."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device.steps_per_call import StepsPerCall
from gradloop.loops.training.epoch_reader import EpochReader


class FakeStep:
    """Reads batches as a step on one device does, and keeps what it read."""

    strategy = mean_over_workers = None

    def __init__(self):
        self.seen, self.ends = [], []

    def end_of_data(self):
        self.ends.append(len(self.seen))

    def run_records(self, iterator, steps):
        ran = []
        for batch in iterator:
            ran.append(np.asarray(batch[0]).tolist())
            if len(ran) == steps:
                break
        self.seen += ran
        return ran


def _epochs(reader, count, steps_a_call=2, first=0):
    epochs = []
    for number in range(first, first + count):
        step = FakeStep()
        told = sum(len(records) for records in reader.epoch(number, step, StepsPerCall(steps_a_call)))
        assert told == len(step.seen)
        epochs.append(step.seen)
    return epochs


def _dataset(examples=5, batch_size=2):
    return tf.data.Dataset.from_tensor_slices((range(examples), range(examples))).batch(batch_size)


def _generated(batches):
    def generate():
        for number in range(batches):
            yield [number], [number]

    spec = tf.TensorSpec([None], tf.int32)
    return tf.data.Dataset.from_generator(generate, output_signature=(spec, spec))


def test_an_epoch_ends_in_no_stub_of_a_call():
    pace, calls = StepsPerCall(), []
    pace.steps = 4  # as measured
    reader = EpochReader(loops.Batches(np.arange(5), np.arange(5), 1))
    for records in reader.epoch(0, FakeStep(), pace):
        calls.append(len(records))
    assert calls == [5]


def test_calls_up_to_a_limit_are_of_equal_length():
    """As between two checkpoints: no short call before each, which costs as much as a long one."""
    pace, calls = StepsPerCall(), []
    pace.steps = 4
    reader = EpochReader(loops.Batches(np.arange(40), np.arange(40), 1))
    for records in reader.epoch(0, FakeStep(), pace, steps_allowed=lambda: 10 - sum(calls) % 10):
        calls.append(len(records))
        pace.steps = 4  # as measured
    assert calls == [5] * 8


@pytest.mark.parametrize("steps_a_call", [1, 2, 3, 50])
def test_an_epoch_is_one_pass(steps_a_call):
    reader = EpochReader(_dataset())
    assert reader.steps == 3
    assert _epochs(reader, 2, steps_a_call) == [[[0, 1], [2, 3], [4]]] * 2
    reader = EpochReader(loops.Batches(np.arange(5), np.arange(5), 2, shuffle=False))
    assert reader.steps == 3
    assert _epochs(reader, 2, steps_a_call) == [[[0, 1], [2, 3], [4]]] * 2


@pytest.mark.parametrize("steps_a_call", [1, 2, 3, 50])
@pytest.mark.parametrize(
    "data", [_generated(4), _dataset(4, 1).filter(lambda x, y: True)], ids=["generator", "filter"]
)
def test_unknown_length(data, steps_a_call):
    reader = EpochReader(data)
    assert reader.steps is None
    assert _epochs(reader, 2, steps_a_call) == [[[0], [1], [2], [3]]] * 2


@pytest.mark.parametrize("steps_a_call", [1, 2, 50])
def test_endless_data_goes_on(steps_a_call):
    reader = EpochReader(_dataset(3, 1).repeat(), np.int64(2))
    assert reader.steps == 2
    assert _epochs(reader, 3, steps_a_call) == [[[0], [1]], [[2], [0]], [[1], [2]]]


@pytest.mark.parametrize("steps_a_call", [1, 2, 50])
@pytest.mark.parametrize(
    "data",
    [
        _dataset(3, 1),
        _generated(3),
        loops.Batches(np.arange(3), np.arange(3), 1, shuffle=False),
    ],
    ids=["dataset", "generator", "batches"],
)
@pytest.mark.parametrize("steps", [2, 3, 4, 7])
def test_finite_data_rolls_over(data, steps, steps_a_call):
    epochs = _epochs(EpochReader(data, steps), 3, steps_a_call)
    assert [len(epoch) for epoch in epochs] == [steps] * 3
    assert [number for epoch in epochs for (number,) in epoch] == [n % 3 for n in range(3 * steps)]


def test_epochs_of_batches_follow_one_another():
    numbers = np.arange(12)
    data = loops.Batches(numbers, numbers, 4, seed=8)
    expected = [[x.numpy().tolist() for x, _ in data.iterator(epoch)] for epoch in range(4)]
    assert _epochs(EpochReader(data), 2) == expected[:2]
    assert _epochs(EpochReader(data, 6), 1) == [expected[2] + expected[3]]


def test_evaluation_does_not_move_batches():
    numbers = np.arange(12)
    data = loops.Batches(numbers, numbers, 4)
    first = [x.numpy().tolist() for x, _ in data.iterator(0)]
    data.epoch = 5
    assert _epochs(EpochReader(data, evaluates=True), 2) == [first, first]
    assert data.epoch == 5


def test_no_data_at_all():
    with pytest.raises(TypeError, match="`data` must be a `loops.Batches` .* not ndarray: wrap"):
        EpochReader(np.ones(3))
    with pytest.raises(TypeError, match="`validation` must be .* not tuple"):
        EpochReader((np.ones(3), np.ones(3)), name="validation")


@pytest.mark.parametrize("steps", [0, -1, True, 1.5, "3"])
def test_bad_steps(steps):
    error = ValueError if type(steps) is int else TypeError
    with pytest.raises(error, match=f"`steps_per_epoch` must be .*at least 1, got {steps!r}"):
        EpochReader(_dataset(), steps)
    with pytest.raises(error, match=f"`steps` must be .*at least 1, got {steps!r}"):
        EpochReader(_dataset(), steps, steps_name="steps")


def test_endless_data_without_steps():
    endless = _dataset().repeat()
    with pytest.raises(ValueError, match="`data` has no end: .* `steps_per_epoch=...`"):
        EpochReader(endless)
    with pytest.raises(ValueError, match=r"`validation` has no end: .* `dataset.take\(batches\)`"):
        EpochReader(endless, name="validation", steps_name=None)


def test_data_known_to_be_empty():
    with pytest.raises(ValueError, match="`data` is empty"):
        EpochReader(_dataset().take(0))


@pytest.mark.parametrize("steps", [None, 3])
def test_data_that_turns_out_empty(steps):
    for data in (_generated(0), _dataset().filter(lambda x, y: False)):
        with pytest.raises(ValueError, match="`data` is empty"):
            _epochs(EpochReader(data, steps), 1)


def test_data_that_runs_dry_in_a_later_epoch():
    left = [3, 0]

    def generate():
        for number in range(left.pop(0)):
            yield [number], [number]

    spec = tf.TensorSpec([None], tf.int32)
    data = tf.data.Dataset.from_generator(generate, output_signature=(spec, spec))
    reader = EpochReader(data, 2)
    assert _epochs(reader, 1) == [[[0], [1]]]
    with pytest.raises(ValueError, match="`data` is empty"):
        _epochs(reader, 1)
