"""A run that was cut and taken up from a checkpoint has all the numbers of one that was not."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.checkpoint.tensor_file import TensorFile

EPOCHS = 4


class Cut(loops.StepsCallback):
    """Ends training after a number of batches, each number once."""

    def __init__(self, *at, error=OSError):
        super().__init__()
        self.left, self.error = list(at), error

    def steps_allowed(self, done):
        return self.left[0] - done if self.left else None

    def on_train_steps_end(self, first, values):
        if self.left and first - 1 + len(values["loss"]) == self.left[0]:
            self.left.pop(0)
            raise self.error("power cut")


class Noted(loops.StepsCallback):
    """The loss of each step by its number: of one that ran twice, the last."""

    def __init__(self):
        super().__init__()
        self.losses = {}

    def on_train_steps_end(self, first, values):
        self.losses.update(enumerate(values["loss"].tolist(), first))


class Halving(keras.callbacks.Callback):
    """Halves the rate at each epoch's beginning: doing so twice would show."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate.numpy()) / 2


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, "tanh", name="body"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.3, seed=5, name="drop"),
            keras.layers.Dense(3, "softmax", name="head"),
        ]
    )


class Plain:
    """What each case may change of a run."""

    steps_per_epoch: int | None = None
    validates = False

    def __init__(self):
        random = np.random.RandomState(0)
        self.x = random.rand(22, 4).astype("float32")
        self.y = random.randint(0, 3, 22)

    def optimizer(self, model):
        return keras.optimizers.Adam(0.05)

    def step(self):
        model = network()
        options = {"metrics": ["accuracy"]} | self.options()
        return loops.TrainStep(model, "sparse_categorical_crossentropy", self.optimizer(model), **options)

    def options(self):
        return {}

    def data(self):
        return loops.Batches(self.x, self.y, 5, seed=3)

    def callbacks(self):
        return []

    def train(self, step, *more, epochs=EPOCHS, **run):
        return loops.train(
            step,
            self.data(),
            epochs=epochs,
            steps_per_epoch=self.steps_per_epoch,
            validation=loops.Batches(self.x, self.y, 8) if self.validates else None,
            callbacks=[*self.callbacks(), *more],
            **run,
        )


class Momentum(Plain):
    def optimizer(self, model):
        return keras.optimizers.SGD(0.1, momentum=0.9)


class Everything(Plain):
    """Accumulation over the ends of epochs, clipping, a metric with a state, a schedule."""

    def optimizer(self, model):
        return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9))

    def options(self):
        probabilities = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
        return {"accumulate": 3, "clip_norm": 0.5, "metrics": ["accuracy", probabilities]}


class Rates(Plain):
    """Callbacks that turn the rate."""

    validates = True

    def callbacks(self):
        plateau = keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=10.0, cooldown=1)
        return [Halving(), plateau]


class Stops(Plain):
    """Keras' early stopping, which puts the best weights back."""

    validates = True

    def callbacks(self):
        stop = keras.callbacks.EarlyStopping("val_loss", patience=2, min_delta=10.0)
        stop.restore_best_weights = True
        return [stop]


class Scaled(Plain):
    """A loss scale that is still falling."""

    def step(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            return super().step()
        finally:
            keras.config.set_dtype_policy("float32")

    def optimizer(self, model):
        inner = keras.optimizers.SGD(0.1, momentum=0.9)
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**20, dynamic_growth_steps=3)


class Unfreezes(Plain):
    def optimizer(self, model):
        groups = {"body": optim.Group(optim.name("body") | optim.name("norm"), lr_scale=0.5), "head": "head"}
        return optim.GroupedOptimizer(keras.optimizers.Adam(0.05), optim.partition(model, groups))

    def callbacks(self):
        return [loops.Unfreeze({7: "norm", 12: "body"}, by="step")]

    def options(self):
        return {"variables": "head", "accumulate": 2}


class Waits(Plain):
    validates = True

    def callbacks(self):
        return [loops.Unfreeze({0: "head", 1: "*"}, by="plateau", min_delta=10.0)]


class Averages(Plain):
    def optimizer(self, model):
        return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8)


class Swaps(Averages):
    validates = True

    def callbacks(self):
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


class Hooks(Plain):
    """A batch hook: a call a step."""

    def callbacks(self):
        return [keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]


class Long(Plain):
    """Epochs that end within a pass, and go over one's end."""

    steps_per_epoch = 7


class Dataset(Plain):
    def data(self):
        return tf.data.Dataset.from_tensor_slices((self.x, self.y)).shuffle(22, seed=9).batch(5)


class LongDataset(Dataset):
    steps_per_epoch = 7


class Endless(Dataset):
    steps_per_epoch = 4

    def data(self):
        data = tf.data.Dataset.from_tensor_slices((self.x, self.y)).shuffle(22, seed=9)
        return data.repeat().batch(5).prefetch(2)


class Generated(Plain):
    """In whose iterator TensorFlow knows no place."""

    def data(self):
        def generate():
            for first in range(0, 22, 5):
                yield self.x[first : first + 5], self.y[first : first + 5]

        specs = (tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.int64))
        return tf.data.Dataset.from_generator(generate, output_signature=specs)


class LongGenerated(Generated):
    steps_per_epoch = 7


CASES = [Plain, Momentum, Everything, Rates, Stops, Scaled, Unfreezes, Waits, Averages, Swaps, Hooks, Long]
DATASETS = [Dataset, LongDataset, Endless, Generated, LongGenerated]


def everything(step):
    return {name: variable.numpy() for name, variable in step.state().items()}


def assert_same_run(one, other):
    """Two tuples of a step, its history and what a `Noted` heard."""
    (step, history, noted), (other_step, other_history, other_noted) = one, other
    state, other_state = everything(step), everything(other_step)
    assert list(state) == list(other_state)
    for name, value in state.items():
        np.testing.assert_array_equal(value, other_state[name], err_msg=name)
    np.testing.assert_equal(history.history, other_history.history)  # NaN too
    assert history.epoch == other_history.epoch
    assert noted.losses == other_noted.losses
    assert [v.path.split("/")[-2:] for v in step.variables] == [
        v.path.split("/")[-2:] for v in other_step.variables
    ]


def straight(case, *more):
    step, noted = case.step(), Noted()
    return step, case.train(step, noted, *more), noted


def cut(case, folder, cut, **options):
    """The same run, in as many pieces as `cut` makes; everything is made anew for each."""
    noted = Noted()
    while True:
        step = case.step()
        checkpoint = loops.Checkpoint(folder, verbose=0, **options)
        try:
            history = case.train(step, noted, cut, checkpoint=checkpoint)
        except OSError as error:
            assert str(error) == "power cut"
            continue
        if not cut.left:
            return step, history, noted


# What each of these may change, another changes too.
ALIKE = {Momentum, LongDataset, LongGenerated}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.release if case in ALIKE else ()) for case in (*CASES, *DATASETS)],
)
def test_a_run_that_is_cut_has_the_numbers_of_one_that_is_not(case, tmp_path):
    case = case()
    # A step after a checkpoint in the middle of an epoch, on the last batch of one; then after another.
    assert_same_run(cut(case, tmp_path, Cut(10, 13), every_steps=4), straight(case))


def test_cut_before_anything_was_kept(tmp_path):
    assert_same_run(cut(Plain(), tmp_path, Cut(2, 6)), straight(Plain()))


@pytest.mark.parametrize("case", [Everything, Unfreezes, Swaps, LongDataset])
def test_cut_between_checkpoints_of_epochs_alone(case, tmp_path):
    case = case()
    assert_same_run(cut(case, tmp_path, Cut(8)), straight(case))


@pytest.mark.parametrize("case", [Everything, Averages, Swaps, Hooks, Dataset, LongGenerated])
def test_an_interrupted_run_goes_on_at_the_very_step(case, tmp_path):
    case = case()
    noted = Noted()
    for number in (3, 10, None):
        step = case.step()
        stop = Cut(*([] if number is None else [number]), error=KeyboardInterrupt)
        checkpoint = loops.Checkpoint(tmp_path, verbose=0)
        history = case.train(step, noted, stop, checkpoint=checkpoint)
        if number is not None:
            note = TensorFile(f"{checkpoint.newest}/state").note["run"]
            assert note["batch"] + note["epoch"] * (case.steps_per_epoch or 5) == number
    assert_same_run((step, history, noted), straight(case))


@pytest.mark.parametrize("case", [Plain, Averages, Swaps, Rates, Dataset])
def test_more_epochs_are_those_that_would_have_followed(case, tmp_path):
    case, noted = case(), Noted()
    for epochs in (2, EPOCHS):
        step = case.step()
        checkpoint = loops.Checkpoint(tmp_path, verbose=0)
        history = case.train(step, noted, epochs=epochs, checkpoint=checkpoint)
    assert_same_run((step, history, noted), straight(case))


class Interrupt(keras.callbacks.Callback):
    """`Ctrl-C` in a hook of an epoch, or in its validation."""

    def __init__(self, hook, epoch):
        super().__init__()
        self.epoch, self.wanted = -1, epoch
        wrapped = getattr(self, hook)

        def interrupt(*arguments, **options):
            wrapped(*arguments, **options)
            if self.epoch == self.wanted:
                raise KeyboardInterrupt

        setattr(self, hook, interrupt)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_test_begin", "on_epoch_end"])
@pytest.mark.parametrize("case", [Rates, Swaps])
def test_an_interrupt_between_the_steps_of_epochs(case, hook, tmp_path):
    """Hooks that have run do not run again on top of what they did."""
    case, noted = case(), Noted()
    for epoch in (1, 3, None):
        step = case.step()
        more = [noted] if epoch is None else [noted, Interrupt(hook, epoch)]
        checkpoint = loops.Checkpoint(tmp_path, verbose=0)
        history = case.train(step, *more, checkpoint=checkpoint)
    assert_same_run((step, history, noted), straight(case))


def test_the_data_is_left_where_it_would_have_been(tmp_path):
    case = Rates()
    source = case.data()
    case.data = lambda: source
    case.train(case.step(), Interrupt("on_test_begin", EPOCHS - 1), checkpoint=tmp_path)
    source.epoch = 0
    case.train(case.step(), checkpoint=tmp_path)
    assert source.epoch == EPOCHS


@pytest.mark.parametrize("case", [Long, Dataset, LongGenerated])
def test_an_interrupt_in_a_call_of_the_device(case, tmp_path, monkeypatch):
    case, noted, left = case(), Noted(), [2, 3]
    calls = []

    @contextlib.contextmanager
    def around_a_call(one_thread):
        yield
        calls.append(one_thread)
        if left and len(calls) == left[0]:
            raise KeyboardInterrupt  # as Python does when the call returns

    monkeypatch.setattr("gradloop.loops.device.device_loop.executor", around_a_call)
    while True:
        step, ends = case.step(), not left
        history = case.train(step, noted, checkpoint=loops.Checkpoint(tmp_path, verbose=0))
        if ends:
            break
        left.pop(0)
        calls.clear()
    monkeypatch.undo()
    assert_same_run((step, history, noted), straight(case))


def test_an_interrupt_with_a_batch_read_that_has_not_run(tmp_path):
    """Of data whose length nobody knows, a batch is read before its hook runs."""
    begun = []

    def begin(batch, logs):
        begun.append(batch)
        if len(begun) == 7:
            raise KeyboardInterrupt

    case, noted = Generated(), Noted()
    hook = keras.callbacks.LambdaCallback(on_train_batch_begin=begin)
    case.train(case.step(), noted, hook, checkpoint=tmp_path)
    step = case.step()
    history = case.train(step, noted, hook, checkpoint=tmp_path)
    assert len(begun) == 4 * 5 + 1
    assert_same_run((step, history, noted), straight(case, hook))
