"""What Unfreeze refuses: when it is made, before the first step, and where it cannot work."""

import keras
import numpy as np
import pytest

from gradloop import loops, optim


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
        (dict(every=0), ValueError, "`every` must be at least 1, got 0"),
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
def test_what_cannot_be_unfrozen_is_refused_before_the_first_step(layered, arguments, error, message):
    step = layered.step()
    before = step.model.get_weights()
    with pytest.raises(error, match=message):
        loops.train(step, layered.data(), epochs=3, callbacks=[loops.Unfreeze(**arguments)])
    for one, other in zip(step.model.get_weights(), before):
        np.testing.assert_array_equal(one, other)


def test_an_optimizer_that_was_built_without_what_a_stage_trains(layered):
    model = layered.model()
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(optim.select(model, "head"))
    step = layered.step(model, optimizer)
    before = model.get_weights()
    message = "body from time 2 on.*built without body/kernel, body/bias.*optimizer.build"
    with pytest.raises(ValueError, match=message):
        loops.train(step, layered.data(), epochs=3, callbacks=[loops.Unfreeze({0: "head", 2: "body"})])
    for one, other in zip(model.get_weights(), before):
        np.testing.assert_array_equal(one, other)
    assert layered.moved(loops.Unfreeze({0: "head"}), 1, step) == [{"head"}]


def test_a_layer_that_keras_freezes_is_refused(layered):
    model = layered.model()
    model.get_layer("body").trainable = False
    with pytest.raises(optim.SelectionError, match="trainable = False"):
        layered.moved(loops.Unfreeze({0: "head", 1: "body"}), 3, layered.step(model))


def _grouped(model, **groups):
    plan = optim.partition(model, groups)
    return optim.GroupedOptimizer(keras.optimizers.Adam(0.01), plan)


def test_nothing_to_unfreeze_from_the_top_down(layered):
    model = layered.model()
    optimizer = _grouped(model, rest=optim.Group(~optim.name("head"), frozen=True), top="head")
    with pytest.raises(ValueError, match="nothing to unfreeze"):
        loops.train(layered.step(model, optimizer), layered.data(), epochs=3, callbacks=[loops.Unfreeze()])


def test_fit_has_no_step(layered):
    model = layered.model()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="pass it to `loops.train`"):
        model.fit(layered.x, layered.y, verbose=0, callbacks=[loops.Unfreeze({0: "head"})])


def test_an_own_loop_that_did_not_begin_it(layered):
    unfreeze = loops.Unfreeze({0: "head"})
    unfreeze.set_train_step(layered.step())
    with pytest.raises(ValueError, match="call `on_train_begin"):
        unfreeze.on_epoch_begin(0)


def test_logs_without_the_value(layered):
    with pytest.raises(ValueError, match="'val_loss' is not in the epoch's logs.*or give `validation`"):
        layered.moved(loops.Unfreeze({0: "head", 1: "*"}, by="plateau"))
