"""What ends a run is what is raised, what cannot begin changes nothing, and its data goes on without it."""

import keras
import numpy as np
import pytest

from gradloop import loops
from tests.loops.training.ten_examples import X, Y, batches, generated, shuffled


def made():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    return loops.TrainStep(model, "mse", "adam")


def values(step):
    return {name: variable.numpy() for name, variable in step.state().items()}


class FullDisk(loops.StepsCallback):
    def on_train_end(self, logs=None):
        raise OSError("disk full")


class Closed(loops.StepsCallback):
    closed = 0

    def on_train_end(self, logs=None):
        self.closed += 1


@pytest.mark.parametrize("ends", [False, True], ids=["ends", "fails"])
def test_each_callback_is_closed_and_the_error_that_came_first_is_raised(ends):
    x = X.copy()
    x[0] = np.nan if ends else 0.0
    callbacks = [FullDisk(), Closed(), FullDisk(), Closed()]
    with pytest.raises(loops.NonFiniteError if ends else OSError) as error:
        loops.train(made(), batches(x), epochs=1, callbacks=callbacks)
    assert [callbacks[1].closed, callbacks[3].closed] == [1, 1]
    hook = "on_train_failed" if ends else "on_train_end"
    whose = f"The callback FullDisk raised this in its `{hook}`, after step "
    *first, then = error.value.__notes__
    assert then.startswith(f"Then OSError came as well: disk full {whose}")
    assert len(first) == (not ends) and all(note.startswith(whose) for note in first)


class Fails(keras.callbacks.Callback):
    def __init__(self, hook):
        super().__init__()

        def fail(*arguments, **options):
            raise ZeroDivisionError("on purpose")

        setattr(self, hook, fail)


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin"])
def test_a_run_that_cannot_resume_leaves_the_step_as_it_was(hook, tmp_path):
    data = batches()
    loops.train(made(), data, epochs=1, checkpoint=tmp_path)
    step = made()
    step(X, Y)
    before, epoch = values(step), data.epoch
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        loops.train(step, data, epochs=3, checkpoint=tmp_path, callbacks=[Fails(hook)])
    for name, value in values(step).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert data.epoch == epoch


class Remembers(keras.callbacks.Callback):
    def __init__(self, told):
        super().__init__()
        self.told, self.given = told, []

    def state(self):
        return self.told

    def set_state(self, state):
        self.given.append(state)


@pytest.mark.parametrize("told", [{"best": object()}, {3: "epochs"}, [{"a": {1: 2}}], {"x": {1}}])
def test_a_state_that_json_cannot_hold_is_refused_before_the_first_epoch(told, tmp_path):
    step = made()
    with pytest.raises(
        TypeError, match=r"`callbacks` has a Remembers whose `state\(\)` returns .*return numb"
    ):
        loops.train(step, batches(), epochs=1, checkpoint=tmp_path, callbacks=[Remembers(told)])
    assert int(step.batches_done.numpy()) == 0 and loops.Checkpoint(tmp_path).newest is None
    loops.train(step, batches(), epochs=1, callbacks=[Remembers(told)])  # without a checkpoint nobody asks


def test_methods_that_are_something_else_are_not_called(tmp_path):
    class Machine(Remembers):
        def state(self, name):
            raise AssertionError

        def set_state(self, name, value):
            raise AssertionError

    class Half(keras.callbacks.Callback):
        def set_state(self, state):
            raise AssertionError

    for epochs in (1, 2):
        own = Remembers({"count": [1, 2.5, None, "text"]})
        callbacks = [Machine(None), Half(), own]
        loops.train(made(), batches(), epochs=epochs, checkpoint=tmp_path, callbacks=callbacks)
    assert own.given == [{"count": [1, 2.5, None, "text"]}]


@pytest.mark.parametrize(
    "data, steps, epochs", [(batches, None, 2), (generated, None, 1), (shuffled, None, 2), (generated, 2, 1)]
)
def test_a_loop_of_ones_own_goes_on_where_a_run_ended(data, steps, epochs, tmp_path):
    """The step's next batches are those of the next epoch."""
    first, straight, step = made(), made(), made()
    loops.train(first, data(), epochs=epochs, steps_per_epoch=steps, checkpoint=tmp_path)
    loops.train(straight, data(), epochs=epochs + 1, steps_per_epoch=steps)
    iterator = loops.Checkpoint(tmp_path).restore(step, data())
    ran = len(step.run(iterator, steps or 3)["loss"])
    if ran < (steps or 3):
        step.run(iter(data()), steps - ran)
    for name, value in values(straight).items():
        np.testing.assert_array_equal(values(step)[name], value, err_msg=name)
