"""Unfreeze: states, and runs that begin again or go on."""

import json

import keras
import pytest
import tensorflow as tf

from gradloop import loops, optim

ALL = {"stem", "norm", "body", "head"}


def test_by_plateau_goes_on_from_a_state_that_was_kept(layered):
    values = [1.0, 1.0, 1.0, 0.9, 0.9]
    whole, parts = layered.watch(), []
    stages = {0: "head", 1: "body", 2: "*"}

    def make():
        return loops.Unfreeze(stages, by="plateau", patience=2)

    loops.train(layered.step(), layered.data(), epochs=5, callbacks=[layered.losses(values), make(), whole])
    step, state = layered.step(), None
    for part in (values[:2], values[2:]):
        unfreeze, moved = make(), layered.watch()
        if state is not None:
            unfreeze.set_state(json.loads(state))
        loops.train(step, layered.data(), epochs=len(part), callbacks=[layered.losses(part), unfreeze, moved])
        state = json.dumps(unfreeze.state())
        parts += moved.epochs
    assert parts == whole.epochs
    assert parts[2] != parts[3]


class Crash(keras.callbacks.Callback):
    """Ends a run with an error at the beginning of its third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise RuntimeError("power cut")


def test_a_backup_goes_on_as_the_run_would_have(layered, tmp_path):
    def run(*more):
        step, moved = layered.step(), layered.watch()
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        callbacks = [backup, loops.Unfreeze({0: "head", 1: "body", 3: "*"}), moved, *more]
        try:
            loops.train(step, layered.data(), epochs=4, callbacks=callbacks)
        except RuntimeError:
            pass
        return moved.epochs

    assert run(Crash()) == [{"head"}, {"head", "body"}]
    assert run() == [{"head", "body"}, ALL]


def _trained_step(layered):
    """One that has trained for an epoch before the run."""
    step = layered.step()
    loops.train(step, layered.data(), epochs=1)
    return step


BY_STEP = [{"head"}, {"head", "body"}, ALL, ALL]


def test_by_step_from_the_top_down_on_a_step_that_has_trained(layered):
    step = _trained_step(layered)
    unfreeze = loops.Unfreeze(by="step", every=4)
    assert layered.moved(unfreeze, 4, step) == BY_STEP
    assert unfreeze.state() == {"base": [], "span": [4, 3], "plateau": None}
    # An optimizer that has trained with another step: training counts its updates.
    other = loops.TrainStep(step.model, "mse", step.optimizer)
    assert layered.moved(loops.Unfreeze(by="step", every=4), 4, other) == BY_STEP


@pytest.mark.numbers
def test_by_step_from_the_top_down_in_the_middle_of_an_epoch(layered, assert_same_weights):
    step, by_hand = _trained_step(layered), _trained_step(layered)
    loops.train(step, layered.data(), epochs=2, callbacks=[loops.Unfreeze(by="step", every=3)])
    for number in range(8):
        by_hand.train_only(*(["head"], ["head", "body"], ["*"])[number // 3])
        first = number % 4 * 5
        by_hand(layered.x[first : first + 5], layered.y[first : first + 5])
    assert_same_weights(step.model, by_hand.model, rtol=1e-5)


def test_by_step_in_a_list_counts_all_of_the_training_that_training_counts(layered):
    step = _trained_step(layered)
    stages = {0: "head", 8: "body", 12: "*"}
    assert layered.moved(loops.Unfreeze(stages, by="step"), 3, step) == BY_STEP[:3]
    other = loops.TrainStep(step.model, "mse", step.optimizer)  # 16 updates
    assert layered.moved(loops.Unfreeze({0: "head", 20: "*"}, by="step"), 2, other) == [{"head"}, ALL]


@pytest.mark.parametrize(
    "before, known, first",
    [
        pytest.param(False, False, False, id="unknown length"),
        pytest.param(False, True, True, id="first, after the backup", marks=pytest.mark.long),
        pytest.param(True, True, False, id="second"),
        pytest.param(False, False, True, id="unknown length, after the backup", marks=pytest.mark.long),
        pytest.param(False, True, False, id="first", marks=pytest.mark.long),
        pytest.param(True, True, True, id="second, after the backup", marks=pytest.mark.release),
    ],
)
def test_by_step_from_the_top_down_a_backup_goes_on_as_the_run_would_have(
    layered, tmp_path, before, known, first
):
    """What trained before the run trains again before it resumes. Nobody knows how much that was where
    epochs have no known length, so that is left to `state()`."""

    def run(*more):
        step, moved = _trained_step(layered) if before else layered.step(), layered.watch()
        data = tf.data.Dataset.from_tensor_slices((layered.x, layered.y)).batch(5)
        data = layered.data() if known else data.filter(lambda x, y: True)
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        unfreeze = loops.Unfreeze(by="step", every=4)
        callbacks = [backup, unfreeze] if first else [unfreeze, backup]
        try:
            loops.train(step, data, epochs=4, callbacks=[*callbacks, moved, *more])
        except RuntimeError:
            pass
        return moved.epochs

    assert run(Crash()) + run() == BY_STEP


@pytest.mark.parametrize("same", [False, True], ids=["state", "same object"])
def test_by_step_from_the_top_down_goes_on_in_another_run(layered, same):
    step, unfreeze = _trained_step(layered), loops.Unfreeze(by="step", every=6)
    assert layered.moved(unfreeze, 2, step) == [{"head"}, ALL]  # two stages are what there is time for
    if not same:
        state = json.loads(json.dumps(unfreeze.state()))
        unfreeze = loops.Unfreeze(by="step", every=6)
        unfreeze.set_state(state)
    assert layered.moved(unfreeze, 4, step) == [ALL] * 4


def test_by_step_from_the_top_down_before_the_count_at_which_stages_began(layered):
    unfreeze = loops.Unfreeze(by="step", every=4)
    unfreeze.set_state({"base": [], "span": [2, 3], "plateau": None})
    assert layered.moved(unfreeze, 3) == [{"head"}, {"head", "body"}, ALL]


def test_by_step_from_the_top_down_in_a_step_with_its_state_back(layered):
    step, unfreeze = _trained_step(layered), loops.Unfreeze(by="step", every=4)
    with pytest.raises(RuntimeError, match="power cut"):
        loops.train(step, layered.data(), epochs=4, callbacks=[unfreeze, Crash()])
    other, again = layered.step(), loops.Unfreeze(by="step", every=4)
    for name, variable in other.state().items():
        variable.assign(step.state()[name].numpy())
    again.set_state(unfreeze.state())
    assert layered.moved(again, 2, other) == BY_STEP[2:]


@pytest.mark.parametrize("by", ["epoch", "step"])
def test_the_same_object_keeps_what_trained_at_first(layered, by, capsys):
    step, unfreeze = layered.step(variables="body"), loops.Unfreeze({1: "stem"}, by=by, verbose=1)
    first = layered.moved(unfreeze, 2, step)
    assert first[1] == {"body", "stem"} and unfreeze.state()["base"] == ["body/kernel", "body/bias"]
    capsys.readouterr()
    again = layered.moved(unfreeze, 2, step)
    assert again == (first if by == "epoch" else [{"body", "stem"}] * 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:1] == (["epoch 0: what trained at first trains, 2 of 8 variables"] if by == "epoch" else [])
    assert layered.moved(unfreeze, 2, layered.step(variables="head"))[0] >= {"head"}
    assert unfreeze.state()["base"] == ["head/kernel", "head/bias"]


def test_a_new_object_goes_on_with_the_state_of_one_before(layered):
    step, unfreeze = layered.step(variables="body"), loops.Unfreeze({1: "stem"})
    layered.moved(unfreeze, 2, step)
    again = loops.Unfreeze({1: "stem"})
    again.set_state(unfreeze.state())
    with pytest.raises(ValueError, match="stem from epoch 1 on, and the run ends before"):
        layered.moved(again, 1, step)
    assert layered.moved(again, 2, step) == [{"body"}, {"body", "stem"}]


def test_a_state_is_kept_when_training_cannot_begin(layered):
    unfreeze = loops.Unfreeze({0: "head", 1: "stm"}, by="plateau")
    state = {"base": [], "span": None, "plateau": {"count": 1, "best": 0.5, "waited": 0}}
    unfreeze.set_state(state)
    with pytest.raises(optim.SelectionError, match="stm"):
        layered.moved(unfreeze)
    assert unfreeze.state() == state


def test_a_state_before_training_begins_is_that_of_a_new_one(layered):
    step, unfreeze = layered.step(variables="body"), loops.Unfreeze({1: "stem"})
    layered.moved(unfreeze, 2, step)
    unfreeze.set_state(loops.Unfreeze({1: "stem"}).state())
    assert layered.moved(unfreeze, 2, step) == [{"body", "stem"}] * 2


PLATEAU = {"count": 1, "best": 0.5, "waited": 0}


@pytest.mark.parametrize(
    "change",
    [{"plateau": None}, {"base": "head/kernel"}, {"base": [0]}, {"span": [0, 3]}, {"start": 0}, {"more": 1}],
)
def test_the_state_of_something_else(change):
    state = {"base": ["head/kernel"], "span": None, "plateau": PLATEAU}
    unfreeze = loops.Unfreeze(by="plateau")
    for wrong in ({**state, **change}, None, {}):
        with pytest.raises(ValueError, match="`state` is not that of an `Unfreeze` with by='plateau'"):
            unfreeze.set_state(wrong)
    with pytest.raises(ValueError, match="`state` of a plateau must be what `state\\(\\)` returned"):
        unfreeze.set_state({**state, "plateau": {"count": 1}})
    assert unfreeze.state() == loops.Unfreeze(by="plateau").state()
    unfreeze.set_state(state)
    assert unfreeze.state() == state


def test_the_state_of_another_model(layered):
    unfreeze = loops.Unfreeze({1: "*"})
    unfreeze.set_state({"base": ["top/kernel"], "span": None, "plateau": None})
    with pytest.raises(ValueError, match="began with top/kernel, which the model cannot train"):
        layered.moved(unfreeze)


def test_the_state_of_other_stages(layered):
    first, other = loops.Unfreeze({0: "head", 1: "stem"}), loops.Unfreeze({1: "stem"})
    layered.moved(first, 2)
    other.set_state(first.state())
    with pytest.raises(ValueError, match="given a state that begins with a stage at time 0"):
        layered.moved(other, 2)


def test_a_run_that_another_callback_refuses_has_not_begun(layered):
    class Refuses(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise RuntimeError("no disk")

    step, unfreeze = layered.step(), loops.Unfreeze(by="step", every=4)
    with pytest.raises(RuntimeError, match="no disk"):
        loops.train(step, layered.data(), epochs=1, callbacks=[unfreeze, Refuses()])
    # There is time for three stages now, where one run of an epoch has time for one.
    assert layered.moved(unfreeze, 4, step) == BY_STEP
