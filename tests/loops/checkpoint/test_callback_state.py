"""What callbacks remember, over the end of a process."""

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.checkpoint.callback_state import CallbackStates
from gradloop.loops.checkpoint.tensor_file import TensorFile, in_memory, write_state


def over(callbacks, others, path):
    """Gives `others` the states of `callbacks`, by a file."""
    states, arrays = CallbackStates(callbacks).gather()
    write_state(str(path), in_memory(arrays), {"run": {"callbacks": states}})
    file = TensorFile(str(path))
    CallbackStates(others).before_train_begin(file)
    for callback in others:
        callback.on_train_begin()
    CallbackStates(others).after_train_begin(file)


class Counts(keras.callbacks.Callback):
    def __init__(self, count=0):
        super().__init__()
        self.count = count

    def state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


class Named(keras.callbacks.Callback):
    """Something else that is called `state`."""

    state = "Bavaria"


def test_callbacks_with_a_state_have_it_again(tmp_path):
    others = [Counts(), Named(), Counts(), loops.Unfreeze({0: "head", 1: "*"}, by="plateau"), Counts(9)]
    unfreeze = loops.Unfreeze({0: "head", 1: "*"}, by="plateau")
    state = {"base": ["a"], "span": None, "plateau": {"count": 2, "best": 0.5, "waited": 1}}
    unfreeze.set_state(state)
    states, _ = CallbackStates([Named(), unfreeze]).gather()
    assert states == {"Unfreeze/0": {"own": state, "stock": {}}}
    unbegun = others.pop(3)
    over([Counts(3), Named(), Counts(4)], others, tmp_path / "state")
    assert [callback.count for callback in others if isinstance(callback, Counts)] == [3, 4, 9]
    assert unbegun.state()["plateau"]["count"] == 0


# What Keras' own remember are attributes, of which each version has its own say.
@pytest.mark.versions
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
        lambda: keras.callbacks.ReduceLROnPlateau("loss", patience=2, cooldown=1, factor=0.5),
        lambda: keras.callbacks.ModelCheckpoint("{epoch}.keras", "loss", save_best_only=True),
    ],
)
def test_keras_own_go_on_as_if_nothing_had_ended_them(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    losses = [3.0, 2.0, 2.5, 2.6, 1.0, 1.5, 1.6, 1.7, 1.8]

    def begun():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.8), "mse")
        callback = make()
        callback.set_model(model)
        return model, callback

    def live(model, callback, epochs):
        told = []
        for epoch in epochs:
            model.set_weights([weight + epoch for weight in model.get_weights()])
            callback.on_epoch_end(epoch, {"loss": losses[epoch]})
            told.append((bool(model.stop_training), float(model.optimizer.learning_rate.numpy())))
        return told

    model, straight = begun()
    straight.on_train_begin()
    model.stop_training = False
    expected = live(model, straight, range(len(losses)))
    for cut in (2, 4, 6):
        first, before = begun()
        before.on_train_begin()
        first.stop_training = False
        told = live(first, before, range(cut))
        second, after = begun()
        second.set_weights(first.get_weights())
        second.optimizer.learning_rate = float(first.optimizer.learning_rate.numpy())
        second.stop_training = False
        over([before], [after], tmp_path / "state")
        assert told + live(second, after, range(cut, len(losses))) == expected
        straight.on_train_end()
        after.on_train_end()
        for one, other in zip(model.get_weights(), second.get_weights()):
            np.testing.assert_array_equal(one, other)


def test_one_of_keras_with_a_state_of_its_own_has_both(tmp_path):
    class Both(keras.callbacks.EarlyStopping):
        mine = 0

        def state(self):
            return self.mine

        def set_state(self, state):
            self.mine = state

    before, after = Both("loss"), Both("loss")
    before.on_train_begin()
    before.mine, before.wait, before.best_weights = 3, 2, [np.ones(2)]
    over([before], [after], tmp_path / "state")
    assert (after.mine, after.wait) == (3, 2)
    np.testing.assert_array_equal(after.best_weights, [np.ones(2)])


def test_one_that_monitors_something_else_begins_anew_and_that_is_told(tmp_path):
    before, same, other = (keras.callbacks.EarlyStopping(name) for name in ("loss", "loss", "val_accuracy"))
    before.on_train_begin()
    before.wait, before.best, before.best_weights = 2, 0.25, [np.ones(2)]
    over([before], [same], tmp_path / "state")
    assert (same.wait, same.best) == (2, 0.25)
    with pytest.warns(
        UserWarning, match="EarlyStopping that monitors 'val_accuracy', .* 'loss': it begins an"
    ):
        over([before], [other], tmp_path / "state")
    assert (other.wait, other.best_weights) == (0, None)


def test_states_of_other_callbacks_are_left_alone(tmp_path):
    stop = keras.callbacks.EarlyStopping("loss")
    over([Counts(3)], [stop], tmp_path / "a")
    assert stop.wait == 0
    other = Counts(1)
    over([stop], [other], tmp_path / "b")
    assert other.count == 1
