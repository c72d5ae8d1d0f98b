"""Unfreeze: what trains when."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim

ALL = {"stem", "norm", "body", "head"}


def test_by_epoch_moves_exactly_what_its_time_has_come_for(layered):
    stages = {0: "head", 1: ["body"], 3: all}
    assert layered.moved(loops.Unfreeze(stages)) == [{"head"}, {"head", "body"}, {"head", "body"}, ALL]


def test_without_a_stage_at_zero_begins_with_what_the_step_trains(layered):
    step = layered.step(variables="body")
    assert layered.moved(loops.Unfreeze({2: "stem"}), 3, step) == [{"body"}, {"body"}, {"body", "stem"}]


@pytest.mark.numbers
def test_stages_equal_a_loop_that_changes_the_choice_by_hand(layered, assert_same_weights):
    step, by_hand = layered.step(), layered.step()
    loops.train(step, layered.data(), epochs=4, callbacks=[loops.Unfreeze({0: "head", 2: "body", 3: "*"})])
    for choice in (["head"], ["head"], ["head", "body"], ["*"]):
        by_hand.train_only(*choice)
        for x, y in zip(np.split(layered.x, 4), np.split(layered.y, 4)):
            by_hand(x, y)
    assert_same_weights(step.model, by_hand.model, rtol=1e-5)
    assert step.traces == 3


def test_moments_are_kept_when_more_trains(layered):
    step, kept = layered.step(optimizer=keras.optimizers.Adam(0.01)), {}

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            kept[epoch] = {name: v.numpy() for name, v in step.state().items() if "head" in name}

        def on_epoch_end(self, epoch, logs=None):
            kept[f"end {epoch}"] = {name: v.numpy() for name, v in step.state().items() if "head" in name}

    loops.train(step, layered.data(), epochs=2, callbacks=[loops.Unfreeze({0: "head", 1: "*"}), Look()])
    assert any("optimizer" in name for name in kept[1])
    for name, value in kept["end 0"].items():
        np.testing.assert_array_equal(kept[1][name], value, err_msg=name)


def test_frozen_batch_norm_keeps_its_statistics_until_it_trains(layered):
    step = layered.step()
    mean = step.model.get_layer("norm").moving_mean
    loops.train(step, layered.data(), epochs=2, callbacks=[loops.Unfreeze({0: "head", 1: "body"})])
    assert not mean.numpy().any()
    loops.train(step, layered.data(), epochs=1, callbacks=[loops.Unfreeze({0: "*"})])
    assert mean.numpy().any()


@pytest.mark.numbers
@pytest.mark.parametrize("batch_hook", [False, True])
def test_by_step_changes_between_two_steps_of_an_epoch(layered, assert_same_weights, batch_hook):
    step, by_hand = layered.step(), layered.step(variables="head")

    class EveryStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    callbacks = [loops.Unfreeze({0: "head", 7: "*"}, by="step"), *([EveryStep()] if batch_hook else [])]
    loops.train(step, layered.data(), epochs=3, callbacks=callbacks)
    for number in range(12):
        if number == 7:
            by_hand.train_only("*")
        first = number % 4 * 5
        by_hand(layered.x[first : first + 5], layered.y[first : first + 5])
    assert_same_weights(step.model, by_hand.model, rtol=1e-5)


def test_by_step_costs_no_call_for_each_step(layered):
    sizes = []

    class Sizes(loops.StepsCallback):
        def on_train_steps_end(self, first, values):
            sizes.append(len(values["loss"]))

    step = layered.step()
    data = loops.Batches(np.repeat(layered.x, 100, axis=0), np.repeat(layered.y, 100, axis=0), 2)
    unfreeze = loops.Unfreeze({0: "head", 33: "*"}, by="step")
    loops.train(step, data, epochs=1, callbacks=[unfreeze, Sizes()])
    assert sum(sizes) == 1000 and len(sizes) < 100
    assert 33 in np.cumsum(sizes)


def test_by_plateau_waits_until_it_gets_no_better(layered):
    losses = layered.losses([1.0, 0.5, 0.5, 0.6, 0.4, 0.4, 0.4])
    unfreeze = loops.Unfreeze({0: "head", 1: "body", 2: all}, by="plateau", patience=2)
    moved = layered.watch()
    loops.train(layered.step(), layered.data(), epochs=7, callbacks=[losses, unfreeze, moved])
    assert moved.epochs == [{"head"}] * 4 + [{"head", "body"}] * 3
    unfreeze.on_epoch_begin(7)
    assert len(unfreeze.train_step.variables) == 8


def test_from_the_top_down_without_a_list(layered):
    # The norm belongs to the layer before it, so there are three depths.
    assert layered.moved(loops.Unfreeze(), 4) == [{"head"}, {"head", "body"}, ALL, ALL]
    assert layered.moved(loops.Unfreeze(every=2), 6)[1:5:2] == [{"head"}, {"head", "body"}]


def test_from_the_top_down_in_fewer_epochs_than_layers(layered):
    assert layered.moved(loops.Unfreeze(), 2) == [{"head"}, ALL]
    assert layered.moved(loops.Unfreeze(), 1) == [ALL]


def test_from_the_top_down_the_top_begins_alone_in_a_deep_model(layered):
    keras.utils.set_random_seed(0)
    names = [f"layer{number}" for number in range(11)]
    layers = [keras.layers.Dense(4, "tanh", name=name) for name in names]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2, name="head")])
    moved = layered.moved(loops.Unfreeze(), 4, layered.step(model))
    assert moved == [{"head"}, *({"head", *names[-count:]} for count in (3, 7, 11))]


@pytest.mark.numbers
@pytest.mark.parametrize("grouped", [False, True])
def test_the_first_steps_of_what_is_unfrozen_late(layered, grouped):
    model = layered.model()
    groups = {"low": "stem", "rest": ~optim.name("stem")}
    step = layered.step(model, _grouped(model, **groups) if grouped else keras.optimizers.Adam(0.01))
    data, kernel = loops.Batches(layered.x, layered.y, 20, shuffle=False), model.get_layer("stem").kernel
    late, sizes = 300, []
    before = kernel.numpy()

    class Sizes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == late:
                sizes.append(np.abs(kernel.numpy() - before))

    loops.train(step, data, epochs=late + 1, callbacks=[loops.Unfreeze({0: "head", late: "stem"}), Sizes()])
    # Adam's first step is the rate in each weight, if the bias is that of its own first step; those aside
    # whose gradient is as small as its epsilon.
    count = 1 if grouped else late + 1
    size = 0.01 * np.sqrt(1 - 0.999**count) / (1 - 0.9**count) * 0.1 / np.sqrt(0.001)
    np.testing.assert_allclose(np.median(sizes[0]), size, rtol=1e-2)
    assert grouped or size > 0.015


@pytest.mark.numbers
def test_from_the_top_down_by_the_groups_of_a_plan_each_at_its_rate(layered):
    model = layered.model()
    plan = optim.partition(model, optim.discriminative(model, 1e-3, 1e-1, groups=2))
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(1.0), plan)
    step = layered.step(model, optimizer)
    start = {name: v.numpy() for name, v in optim.named_variables(model).items()}
    reference = keras.models.clone_model(model)
    reference.set_weights(model.get_weights())
    assert layered.moved(loops.Unfreeze(), 2, step) == [{"head"}, ALL]
    # The same by two Keras optimizers on a model of which the lower part is frozen at first.
    low, high = keras.optimizers.SGD(1e-3), keras.optimizers.SGD(1e-1)
    top = layered.step(reference, high, variables="head")
    for x, y in zip(np.split(layered.x, 4), np.split(layered.y, 4)):
        top(x, y)
    head = reference.get_layer("head").trainable_variables
    bottom = [v for v in reference.trainable_variables if all(v is not other for other in head)]
    low.build(bottom)
    for x, y in zip(np.split(layered.x, 4), np.split(layered.y, 4)):
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


def test_a_stage_unfreezes_the_groups_that_it_takes_from(layered):
    model = layered.model()
    groups = {"low": optim.Group("stem", frozen=True), "mid": optim.Group("body", frozen=True)}
    optimizer = _grouped(model, **groups, top=optim.Group(optim.name("norm") | "head"))
    step = layered.step(model, optimizer)
    moved = layered.moved(loops.Unfreeze({0: "head", 1: "mid"}), 2, step)
    assert moved == [{"head"}, {"head", "body"}]
    assert optimizer.plan.groups["low"].frozen and not optimizer.plan.groups["mid"].frozen


def test_groups_that_the_plan_freezes_stay_frozen_from_the_top_down(layered):
    model = layered.model()
    optimizer = _grouped(model, norms=optim.Group("norm", frozen=True), low="stem", mid="body", top="head")
    moved = layered.moved(loops.Unfreeze(), 3, layered.step(model, optimizer))
    assert moved == [{"head"}, {"head", "body"}, {"head", "body", "stem"}]


def test_prints_what_trains_when_asked(layered, capsys):
    layered.moved(loops.Unfreeze({0: "head", 1: optim.last_layers(2), 2: all}, verbose=1), 3)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 0: head trains, 2 of 8 variables",
        "epoch 1: last_layers(2) trains too, 4 of 8 variables",
        "epoch 2: everything trains too, 8 of 8 variables",
    ]
    layered.moved(loops.Unfreeze({0: ["head", "body"]}, verbose=1), 1)
    assert capsys.readouterr().out == "epoch 0: head, body train, 4 of 8 variables\n"
    layered.moved(loops.Unfreeze({0: "head"}), 1)
    assert capsys.readouterr().out == ""


def test_in_a_loop_of_ones_own(layered):
    step = layered.step()
    unfreeze = loops.Unfreeze({0: "head", 1: "*"})
    unfreeze.set_train_step(step)
    unfreeze.on_train_begin()
    counts = []
    for epoch in range(2):
        unfreeze.on_epoch_begin(epoch)
        step(layered.x, layered.y)
        counts.append(len(step.variables))
    assert counts == [2, 8]
