"""How a run ends before its time, and what is left then."""

import signal
import threading

import keras
import numpy as np
import pytest

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


class At(keras.callbacks.Callback):
    """Does something at the end of one batch of the whole run."""

    def __init__(self, batch, action):
        super().__init__()
        self.left, self.action = batch, action

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.action(self.model)


def test_terminate_on_nan(problem):
    x = problem.x.copy()
    x[12] = np.nan  # in the third batch
    step = problem.step(on_nonfinite="ignore")
    history = loops.train(step, problem.data(x), epochs=3, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert len(history.epoch) == 1 and np.isnan(history.history["loss"][0])
    assert int(step.optimizer.iterations.numpy()) == 3


def test_a_batch_hook_stops_training(problem, assert_same_logs):
    def stop(model):
        model.stop_training = True

    step, reference = problem.step(), problem.model()
    reference.compile(keras.optimizers.SGD(0.1), problem.loss, metrics=["accuracy"])
    run = {"epochs": 5}
    history = loops.train(step, problem.data(), validation=problem.data(), callbacks=[At(7, stop)], **run)
    run |= {"validation_data": (problem.x, problem.y), "callbacks": [At(7, stop)]}
    expected = reference.fit(problem.x, problem.y, 5, shuffle=False, verbose=0, **run)
    assert_same_logs(history, expected)
    assert int(step.optimizer.iterations.numpy()) == 7
    # A new call starts anew.
    assert len(loops.train(step, problem.data(), epochs=2).epoch) == 2


def test_a_steps_callback_stops_long_epochs(problem):
    class Stop(Reader):
        def on_train_steps_end(self, first, values):
            super().on_train_steps_end(first, values)
            self.model.stop_training = len(self.numbers) >= 20

    stop = Stop()
    loops.train(problem.step(), problem.data(), epochs=1, steps_per_epoch=10**6, callbacks=[stop])
    assert 20 <= len(stop.numbers) < 10**4


def test_interrupt_keeps_what_was_learned(problem, assert_same_weights, assert_same_logs):
    def interrupt(model):
        raise KeyboardInterrupt

    step, plain, reader = problem.step(), problem.step(), Reader()
    history = loops.train(step, problem.data(), epochs=4, callbacks=[reader, At(8, interrupt)])
    expected = loops.train(plain, problem.data(), epochs=1)
    assert_same_logs(history, expected, 1e-7)
    assert reader.ended == 1 and reader.numbers == list(range(1, 9))
    assert step.model.optimizer is step.optimizer and step.model.stop_training
    plain.run(problem.data().iterator(), 3)
    assert_same_weights(step.model, plain.model, 0.0)


def test_a_signal_while_the_device_runs_many_steps(problem, assert_same_weights, tmp_path):
    """`Ctrl-C` takes effect when the call returns; what it learned is kept and told, in a checkpoint too."""
    sent = []

    class Sender(Reader):
        def on_train_steps_end(self, first, values):
            super().on_train_steps_end(first, values)
            if len(values["loss"]) > 100 and not sent:
                sent.append(threading.Timer(0.02, signal.raise_signal, [signal.SIGINT]))
                sent[0].start()

    many = [np.resize(array, (200_000, *array.shape[1:])) for array in (problem.x, problem.y)]
    step, plain, sender = problem.step(), problem.step(), Sender()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it
    try:
        run = {"callbacks": [sender], "checkpoint": tmp_path}
        history = loops.train(step, loops.Batches(*many, 2), epochs=1, **run)
        sent[0].join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert step.model.stop_training and history is step.model.history and sender.ended == 1
    done = int(step.batches_done.numpy())
    assert done == int(step.optimizer.iterations.numpy()) and 10**5 > done >= len(sender.numbers) > 0
    loops.train(plain, loops.Batches(*many, 2), epochs=1, steps_per_epoch=done)
    assert_same_weights(step.model, plain.model, 0.0)
    again = problem.step()
    assert loops.Checkpoint(tmp_path).restore(again, loops.Batches(*many, 2)).position == done
    assert_same_weights(again.model, plain.model, 0.0)


@pytest.mark.parametrize(
    "kind, each",
    [
        *(("batches", False), ("dataset", True)),
        *(pytest.param(*case, marks=pytest.mark.release) for case in (("batches", True), ("dataset", False))),
    ],
)
def test_nonfinite_in_the_middle(problem, assert_same_weights, each, kind):
    x = problem.x.copy()
    x[16] = np.nan  # in the fourth batch
    step, plain, reader = problem.step(), problem.step(), Reader()
    loops.train(step, problem.data(), epochs=2)  # then calls hold more than one step
    loops.train(plain, problem.data(), epochs=2)
    data = problem.data(x) if kind == "batches" else problem.dataset(x, problem.y)
    callbacks = [reader, Every()] if each else [reader]
    with pytest.raises(loops.NonFiniteError, match="step 14: ") as caught:
        loops.train(step, data, epochs=3, callbacks=callbacks)
    expected = plain.run(problem.data().iterator(), 3)["loss"]
    assert caught.value.step == 14
    assert reader.numbers == [11, 12, 13] and reader.ended == 1
    np.testing.assert_allclose(reader.losses, expected, rtol=1e-6)
    assert_same_weights(step.model, plain.model)
    assert step.model.optimizer is step.optimizer
