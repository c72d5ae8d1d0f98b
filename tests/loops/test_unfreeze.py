"""Unfreeze: what trains when, and with what state."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim

RANDOM = np.random.RandomState(0)
X = RANDOM.rand(20, 4).astype("float32")
Y = RANDOM.rand(20, 2).astype("float32")


def _model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, "tanh", name="stem"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(4, "tanh", name="body"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def _step(model=None, optimizer=None, **options):
    return loops.TrainStep(model or _model(), "mse", optimizer or keras.optimizers.Adam(0.01), **options)


def _assert_same_weights(one, other):
    """Within a rounding: many steps in a call are not compiled as one is."""
    for a, b in zip(one.weights, other.weights):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def _data():
    return loops.Batches(X, Y, 5, shuffle=False)


class Moved(keras.callbacks.Callback):
    """Which weights each epoch moved, by the names of their layers."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self._before = self._weights()

    def on_epoch_end(self, epoch, logs=None):
        after = self._weights()
        names = {n.split("/")[0] for n, w in after.items() if not np.array_equal(w, self._before[n])}
        self.epochs.append(names)

    def _weights(self):
        return {name: v.numpy() for name, v in optim.named_variables(self.model).items()}


def _moved(unfreeze, epochs=4, step=None, **options):
    moved = Moved()
    loops.train(step or _step(), _data(), epochs=epochs, callbacks=[unfreeze, moved], **options)
    return moved.epochs


ALL = {"stem", "norm", "body", "head"}


def test_by_epoch_moves_exactly_what_its_time_has_come_for():
    stages = {0: "head", 1: ["body"], 3: all}
    assert _moved(loops.Unfreeze(stages)) == [{"head"}, {"head", "body"}, {"head", "body"}, ALL]


def test_without_a_stage_at_zero_begins_with_what_the_step_trains():
    step = _step(variables="body")
    assert _moved(loops.Unfreeze({2: "stem"}), 3, step) == [{"body"}, {"body"}, {"body", "stem"}]


def test_stages_equal_a_loop_that_changes_the_choice_by_hand():
    step, by_hand = _step(), _step()
    loops.train(step, _data(), epochs=4, callbacks=[loops.Unfreeze({0: "head", 2: "body", 3: "*"})])
    for choice in (["head"], ["head"], ["head", "body"], ["*"]):
        by_hand.train_only(*choice)
        for x, y in zip(np.split(X, 4), np.split(Y, 4)):
            by_hand(x, y)
    _assert_same_weights(step.model, by_hand.model)
    assert step.traces == 3


def test_moments_are_kept_when_more_trains():
    step, kept = _step(), {}

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            kept[epoch] = {name: v.numpy() for name, v in step.state().items() if "head" in name}

        def on_epoch_end(self, epoch, logs=None):
            kept[f"end {epoch}"] = {name: v.numpy() for name, v in step.state().items() if "head" in name}

    loops.train(step, _data(), epochs=2, callbacks=[loops.Unfreeze({0: "head", 1: "*"}), Look()])
    assert any("optimizer" in name for name in kept[1])
    for name, value in kept["end 0"].items():
        np.testing.assert_array_equal(kept[1][name], value, err_msg=name)


def test_frozen_batch_norm_keeps_its_statistics_until_it_trains():
    step = _step()
    mean = step.model.get_layer("norm").moving_mean
    loops.train(step, _data(), epochs=2, callbacks=[loops.Unfreeze({0: "head", 1: "body"})])
    assert not mean.numpy().any()
    loops.train(step, _data(), epochs=1, callbacks=[loops.Unfreeze({0: "*"})])
    assert mean.numpy().any()


@pytest.mark.parametrize("batch_hook", [False, True])
def test_by_step_changes_between_two_steps_of_an_epoch(batch_hook):
    step, by_hand = _step(), _step(variables="head")

    class EveryStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    callbacks = [loops.Unfreeze({0: "head", 7: "*"}, by="step"), *([EveryStep()] if batch_hook else [])]
    loops.train(step, _data(), epochs=3, callbacks=callbacks)
    for number in range(12):
        if number == 7:
            by_hand.train_only("*")
        first = number % 4 * 5
        by_hand(X[first : first + 5], Y[first : first + 5])
    _assert_same_weights(step.model, by_hand.model)


def test_by_step_costs_no_call_for_each_step():
    sizes = []

    class Sizes(loops.StepsCallback):
        def on_train_steps_end(self, first, values):
            sizes.append(len(values["loss"]))

    step = _step()
    data = loops.Batches(np.repeat(X, 100, axis=0), np.repeat(Y, 100, axis=0), 2)
    unfreeze = loops.Unfreeze({0: "head", 33: "*"}, by="step")
    loops.train(step, data, epochs=1, callbacks=[unfreeze, Sizes()])
    assert sum(sizes) == 1000 and len(sizes) < 100
    assert 33 in np.cumsum(sizes)


class Losses(keras.callbacks.Callback):
    """Writes what `val_loss` is to be into the logs."""

    def __init__(self, values):
        super().__init__()
        self._values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self._values[epoch]


def test_by_plateau_waits_until_it_gets_no_better():
    losses = Losses([1.0, 0.5, 0.5, 0.6, 0.4, 0.4, 0.4])
    unfreeze = loops.Unfreeze({0: "head", 1: "body", 2: all}, by="plateau", patience=2)
    moved = Moved()
    loops.train(_step(), _data(), epochs=7, callbacks=[losses, unfreeze, moved])
    assert moved.epochs == [{"head"}] * 4 + [{"head", "body"}] * 3
    unfreeze.on_epoch_begin(7)
    assert len(unfreeze.train_step.variables) == 8


def test_by_plateau_goes_on_from_a_state_that_was_kept():
    values = [1.0, 1.0, 1.0, 0.9, 0.9]
    whole, parts = Moved(), []
    stages = {0: "head", 1: "body", 2: "*"}

    def make():
        return loops.Unfreeze(stages, by="plateau", patience=2)

    loops.train(_step(), _data(), epochs=5, callbacks=[Losses(values), make(), whole])
    step, state = _step(), None
    for part in (values[:2], values[2:]):
        unfreeze, moved = make(), Moved()
        if state is not None:
            unfreeze.set_state(json.loads(state))
        loops.train(step, _data(), epochs=len(part), callbacks=[Losses(part), unfreeze, moved])
        state = json.dumps(unfreeze.state())
        parts += moved.epochs
    assert parts == whole.epochs
    assert parts[2] != parts[3]


class Crash(keras.callbacks.Callback):
    """Ends a run with an error at the beginning of its third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise RuntimeError("power cut")


def test_a_backup_goes_on_as_the_run_would_have(tmp_path):
    def run(*more):
        step, moved = _step(), Moved()
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        callbacks = [backup, loops.Unfreeze({0: "head", 1: "body", 3: "*"}), moved, *more]
        try:
            loops.train(step, _data(), epochs=4, callbacks=callbacks)
        except RuntimeError:
            pass
        return moved.epochs

    assert run(Crash()) == [{"head"}, {"head", "body"}]
    assert run() == [{"head", "body"}, ALL]


def test_from_the_top_down_without_a_list():
    # The norm belongs to the layer before it, so there are three depths.
    assert _moved(loops.Unfreeze(), 4) == [{"head"}, {"head", "body"}, ALL, ALL]
    assert _moved(loops.Unfreeze(every=2), 6)[1:5:2] == [{"head"}, {"head", "body"}]


def test_from_the_top_down_in_fewer_epochs_than_layers():
    assert _moved(loops.Unfreeze(), 2) == [{"head"}, ALL]
    assert _moved(loops.Unfreeze(), 1) == [ALL]


def test_from_the_top_down_the_top_begins_alone_in_a_deep_model():
    keras.utils.set_random_seed(0)
    names = [f"layer{number}" for number in range(11)]
    layers = [keras.layers.Dense(4, "tanh", name=name) for name in names]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2, name="head")])
    moved = _moved(loops.Unfreeze(), 4, _step(model))
    assert moved == [{"head"}, *({"head", *names[-count:]} for count in (3, 7, 11))]


def _trained_step():
    """One that has trained for an epoch before the run."""
    step = _step()
    loops.train(step, _data(), epochs=1)
    return step


BY_STEP = [{"head"}, {"head", "body"}, ALL, ALL]


def test_by_step_from_the_top_down_on_a_step_that_has_trained():
    step = _trained_step()
    unfreeze = loops.Unfreeze(by="step", every=4)
    assert _moved(unfreeze, 4, step) == BY_STEP
    assert unfreeze.state() == {"base": [], "start": 4, "number": 3, "plateau": None}
    # An optimizer that has trained with another step: training counts its updates.
    other = loops.TrainStep(step.model, "mse", step.optimizer)
    assert _moved(loops.Unfreeze(by="step", every=4), 4, other) == BY_STEP


def test_by_step_from_the_top_down_in_the_middle_of_an_epoch():
    step, by_hand = _trained_step(), _trained_step()
    loops.train(step, _data(), epochs=2, callbacks=[loops.Unfreeze(by="step", every=3)])
    for number in range(8):
        by_hand.train_only(*(["head"], ["head", "body"], ["*"])[number // 3])
        first = number % 4 * 5
        by_hand(X[first : first + 5], Y[first : first + 5])
    _assert_same_weights(step.model, by_hand.model)


def test_by_step_in_a_list_counts_all_of_the_training_that_training_counts():
    step = _trained_step()
    stages = {0: "head", 8: "body", 12: "*"}
    assert _moved(loops.Unfreeze(stages, by="step"), 3, step) == BY_STEP[:3]
    other = loops.TrainStep(step.model, "mse", step.optimizer)  # 16 updates
    assert _moved(loops.Unfreeze({0: "head", 20: "*"}, by="step"), 2, other) == [{"head"}, ALL]


@pytest.mark.parametrize(
    "before, known", [(False, False), (False, True), (True, True)], ids=["unknown length", "first", "second"]
)
@pytest.mark.parametrize("first", [False, True], ids=["backup last", "backup first"])
def test_by_step_from_the_top_down_a_backup_goes_on_as_the_run_would_have(tmp_path, before, known, first):
    """What trained before the run trains again before it is taken up. Nobody knows how much that was where
    epochs have no known length, so that is left to `state()`."""

    def run(*more):
        step, moved = _trained_step() if before else _step(), Moved()
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)
        data = _data() if known else data.filter(lambda x, y: True)
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
def test_by_step_from_the_top_down_goes_on_in_another_run(same):
    step, unfreeze = _trained_step(), loops.Unfreeze(by="step", every=6)
    assert _moved(unfreeze, 2, step) == [{"head"}, ALL]  # two stages are what there is time for
    if not same:
        state = json.loads(json.dumps(unfreeze.state()))
        unfreeze = loops.Unfreeze(by="step", every=6)
        unfreeze.set_state(state)
    assert _moved(unfreeze, 4, step) == [ALL] * 4


def test_by_step_from_the_top_down_before_the_count_at_which_stages_began():
    unfreeze = loops.Unfreeze(by="step", every=4)
    unfreeze.set_state({"base": [], "start": 2, "number": 3, "plateau": None})
    assert _moved(unfreeze, 3) == [{"head"}, {"head", "body"}, ALL]


def test_by_step_from_the_top_down_in_a_step_with_its_state_back():
    step, unfreeze = _trained_step(), loops.Unfreeze(by="step", every=4)
    with pytest.raises(RuntimeError, match="power cut"):
        loops.train(step, _data(), epochs=4, callbacks=[unfreeze, Crash()])
    other, again = _step(), loops.Unfreeze(by="step", every=4)
    for name, variable in other.state().items():
        variable.assign(step.state()[name].numpy())
    again.set_state(unfreeze.state())
    assert _moved(again, 2, other) == BY_STEP[2:]


@pytest.mark.parametrize("by", ["epoch", "step"])
def test_the_same_object_keeps_what_trained_at_first(by, capsys):
    step, unfreeze = _step(variables="body"), loops.Unfreeze({1: "stem"}, by=by, verbose=1)
    first = _moved(unfreeze, 2, step)
    assert first[1] == {"body", "stem"} and unfreeze.state()["base"] == ["body/kernel", "body/bias"]
    capsys.readouterr()
    again = _moved(unfreeze, 2, step)
    assert again == (first if by == "epoch" else [{"body", "stem"}] * 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:1] == (["epoch 0: what trained at first trains, 2 of 8 variables"] if by == "epoch" else [])
    assert _moved(unfreeze, 2, _step(variables="head"))[0] >= {"head"}
    assert unfreeze.state()["base"] == ["head/kernel", "head/bias"]


def test_a_new_object_goes_on_with_the_state_of_one_before():
    step, unfreeze = _step(variables="body"), loops.Unfreeze({1: "stem"})
    _moved(unfreeze, 2, step)
    again = loops.Unfreeze({1: "stem"})
    again.set_state(unfreeze.state())
    with pytest.raises(ValueError, match="stem from epoch 1 on, and the run ends before"):
        _moved(again, 1, step)
    assert _moved(again, 2, step) == [{"body"}, {"body", "stem"}]


def test_a_state_is_kept_when_training_cannot_begin():
    unfreeze = loops.Unfreeze({0: "head", 1: "stm"}, by="plateau")
    state = {"base": [], "start": None, "number": None, "plateau": {"count": 1, "best": 0.5, "waited": 0}}
    unfreeze.set_state(state)
    with pytest.raises(optim.SelectionError, match="stm"):
        _moved(unfreeze)
    assert unfreeze.state() == state


def test_a_state_before_training_begins_is_that_of_a_new_one():
    step, unfreeze = _step(variables="body"), loops.Unfreeze({1: "stem"})
    _moved(unfreeze, 2, step)
    unfreeze.set_state(loops.Unfreeze({1: "stem"}).state())
    assert _moved(unfreeze, 2, step) == [{"body", "stem"}] * 2


@pytest.mark.parametrize("grouped", [False, True])
def test_the_first_steps_of_what_is_unfrozen_late(grouped):
    model = _model()
    groups = {"low": "stem", "rest": ~optim.name("stem")}
    step = _step(model, _grouped(model, **groups) if grouped else keras.optimizers.Adam(0.01))
    data, kernel = loops.Batches(X, Y, 20, shuffle=False), model.get_layer("stem").kernel
    late, sizes = 300, []
    before = kernel.numpy()

    class Sizes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == late:
                sizes.append(np.abs(kernel.numpy() - before))

    loops.train(step, data, epochs=late + 1, callbacks=[loops.Unfreeze({0: "head", late: "stem"}), Sizes()])
    # Adam's first step is the rate in each weight, if the bias is that of its own first step.
    count = 1 if grouped else late + 1
    size = 0.01 * np.sqrt(1 - 0.999**count) / (1 - 0.9**count) * 0.1 / np.sqrt(0.001)
    np.testing.assert_allclose(sizes[0], size, rtol=1e-2)
    assert grouped or size > 0.015


def test_from_the_top_down_by_the_groups_of_a_plan_each_at_its_rate():
    model = _model()
    plan = optim.partition(model, optim.discriminative(model, 1e-3, 1e-1, groups=2))
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(1.0), plan)
    step = _step(model, optimizer)
    start = {name: v.numpy() for name, v in optim.named_variables(model).items()}
    reference = keras.models.clone_model(model)
    reference.set_weights(model.get_weights())
    assert _moved(loops.Unfreeze(), 2, step) == [{"head"}, ALL]
    # The same by two Keras optimizers on a model of which the lower part is frozen at first.
    low, high = keras.optimizers.SGD(1e-3), keras.optimizers.SGD(1e-1)
    top = _step(reference, high, variables="head")
    for x, y in zip(np.split(X, 4), np.split(Y, 4)):
        top(x, y)
    head = reference.get_layer("head").trainable_variables
    bottom = [v for v in reference.trainable_variables if all(v is not other for other in head)]
    low.build(bottom)
    for x, y in zip(np.split(X, 4), np.split(Y, 4)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(reference(x, training=True) - y))
        gradients = tape.gradient(loss, [v.value for v in [*bottom, *head]])
        low.apply(gradients[: len(bottom)], bottom)
        high.apply(gradients[len(bottom) :], head)
    for (name, one), other in zip(optim.named_variables(model).items(), reference.weights):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-7, err_msg=name)
        assert not np.array_equal(one.numpy(), start[name])


def _grouped(model, **groups):
    plan = optim.partition(model, groups)
    return optim.GroupedOptimizer(keras.optimizers.Adam(0.01), plan)


def test_a_stage_unfreezes_the_groups_that_it_takes_from():
    model = _model()
    groups = {"low": optim.Group("stem", frozen=True), "mid": optim.Group("body", frozen=True)}
    optimizer = _grouped(model, **groups, top=optim.Group(optim.name("norm") | "head"))
    step = _step(model, optimizer)
    moved = _moved(loops.Unfreeze({0: "head", 1: "mid"}), 2, step)
    assert moved == [{"head"}, {"head", "body"}]
    assert optimizer.plan.groups["low"].frozen and not optimizer.plan.groups["mid"].frozen


def test_groups_that_the_plan_freezes_stay_frozen_from_the_top_down():
    model = _model()
    optimizer = _grouped(model, norms=optim.Group("norm", frozen=True), low="stem", mid="body", top="head")
    moved = _moved(loops.Unfreeze(), 3, _step(model, optimizer))
    assert moved == [{"head"}, {"head", "body"}, {"head", "body", "stem"}]


def test_prints_what_trains_when_asked(capsys):
    _moved(loops.Unfreeze({0: "head", 1: optim.last_layers(2), 2: all}, verbose=1), 3)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 0: head trains, 2 of 8 variables",
        "epoch 1: last_layers(2) trains too, 4 of 8 variables",
        "epoch 2: everything trains too, 8 of 8 variables",
    ]
    _moved(loops.Unfreeze({0: "head"}), 1)
    assert capsys.readouterr().out == ""


def test_in_a_loop_of_ones_own():
    step = _step()
    unfreeze = loops.Unfreeze({0: "head", 1: "*"})
    unfreeze.set_train_step(step)
    unfreeze.on_train_begin()
    counts = []
    for epoch in range(2):
        unfreeze.on_epoch_begin(epoch)
        step(X, Y)
        counts.append(len(step.variables))
    assert counts == [2, 8]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(stages=["head"]), TypeError, "`stages` must map times to filters"),
        (dict(stages={}), ValueError, "`stages` is empty"),
        (dict(stages={"head": 0}), TypeError, "time 'head', which is no whole number"),
        (dict(stages={0.5: "head"}), TypeError, "time 0.5"),
        (dict(stages={True: "head"}), TypeError, "time True"),
        (dict(stages={-1: "head"}), ValueError, "time -1; times count from 0"),
        (dict(stages={0: []}), ValueError, "nothing at time 0"),
        (dict(stages={0: 3}), TypeError, "3"),
        (dict(by="epochs"), ValueError, "`by` must be one of 'epoch', 'step', 'plateau', not 'epochs'"),
        (dict(every=0), ValueError, "`every` must be a whole number of at least 1, not 0"),
        (dict(by="plateau", patience=0), ValueError, "`patience`"),
        (dict(by="plateau", mode="up"), ValueError, "`mode` must be 'min', 'max' or None, not 'up'"),
        (dict(by="plateau", monitor="val_x"), ValueError, "'val_x' does not tell which way is better"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        loops.Unfreeze(**arguments)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(stages={0: "head", 3: "body"}), ValueError, "body from epoch 3 on, and the run ends before"),
        (dict(stages={0: "head", 12: "body"}, by="step"), ValueError, "body from step 12 on"),
        (dict(stages={0: "head", 2: "block5*"}), optim.SelectionError, "block5"),
        (dict(stages={0: "head", 2: "Body"}), optim.SelectionError, "Only the case differs"),
    ],
)
def test_what_cannot_be_unfrozen_is_refused_before_the_first_step(arguments, error, message):
    step = _step()
    before = step.model.get_weights()
    with pytest.raises(error, match=message):
        loops.train(step, _data(), epochs=3, callbacks=[loops.Unfreeze(**arguments)])
    for one, other in zip(step.model.get_weights(), before):
        np.testing.assert_array_equal(one, other)


def test_an_optimizer_that_was_built_without_what_a_stage_trains():
    model = _model()
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(optim.select(model, "head"))
    step = _step(model, optimizer)
    before = model.get_weights()
    message = "body from time 2 on.*built without body/kernel, body/bias.*optimizer.build"
    with pytest.raises(ValueError, match=message):
        loops.train(step, _data(), epochs=3, callbacks=[loops.Unfreeze({0: "head", 2: "body"})])
    for one, other in zip(model.get_weights(), before):
        np.testing.assert_array_equal(one, other)
    assert _moved(loops.Unfreeze({0: "head"}), 1, step) == [{"head"}]


def test_a_layer_that_keras_freezes_is_refused():
    model = _model()
    model.get_layer("body").trainable = False
    with pytest.raises(optim.SelectionError, match="trainable = False"):
        loops.train(_step(model), _data(), epochs=3, callbacks=[loops.Unfreeze({0: "head", 1: "body"})])


def test_nothing_to_unfreeze_from_the_top_down():
    model = _model()
    optimizer = _grouped(model, rest=optim.Group(~optim.name("head"), frozen=True), top="head")
    with pytest.raises(ValueError, match="nothing to unfreeze"):
        loops.train(_step(model, optimizer), _data(), epochs=3, callbacks=[loops.Unfreeze()])


def test_fit_has_no_step():
    model = _model()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="pass it to `loops.train`"):
        model.fit(X, Y, verbose=0, callbacks=[loops.Unfreeze({0: "head"})])


def test_an_own_loop_that_did_not_begin_it():
    unfreeze = loops.Unfreeze({0: "head"})
    unfreeze.set_train_step(_step())
    with pytest.raises(ValueError, match="call `on_train_begin"):
        unfreeze.on_epoch_begin(0)


def test_logs_without_the_value():
    with pytest.raises(ValueError, match="'val_loss' is not in the epoch's logs.*or give `validation`"):
        _moved(loops.Unfreeze({0: "head", 1: "*"}, by="plateau"))


PLATEAU = {"count": 1, "best": 0.5, "waited": 0}


@pytest.mark.parametrize(
    "change",
    [{"plateau": None}, {"base": "head/kernel"}, {"base": [0]}, {"start": 0}, {"number": 3}, {"more": 1}],
)
def test_the_state_of_something_else(change):
    state = {"base": ["head/kernel"], "start": None, "number": None, "plateau": PLATEAU}
    unfreeze = loops.Unfreeze(by="plateau")
    for wrong in ({**state, **change}, None, {}):
        with pytest.raises(ValueError, match="`state` is not that of an `Unfreeze` with by='plateau'"):
            unfreeze.set_state(wrong)
    with pytest.raises(ValueError, match="`state` of a plateau must be what `state\\(\\)` gave"):
        unfreeze.set_state({**state, "plateau": {"count": 1}})
    assert unfreeze.state() == loops.Unfreeze(by="plateau").state()
    unfreeze.set_state(state)
    assert unfreeze.state() == state


def test_the_state_of_another_model():
    unfreeze = loops.Unfreeze({1: "*"})
    unfreeze.set_state({"base": ["top/kernel"], "start": None, "number": None, "plateau": None})
    with pytest.raises(ValueError, match="began with top/kernel, which the model cannot train"):
        _moved(unfreeze)
