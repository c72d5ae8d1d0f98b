"""Coming from fastai: the right column."""

import keras

from gradloop import loops, optim

LOSS = "sparse_categorical_crossentropy"
SPLIT = ["hidden", "head"]  # from the bottom to the top


def adam(rate):
    """fastai's Adam, with decoupled weight decay."""
    return keras.optimizers.AdamW(rate, beta_2=0.99, epsilon=1e-5, weight_decay=0.01)


def gradloop_fine_tune(model, x, y):
    data = loops.Batches(x, y, 16)
    base = 2e-3

    # frozen: the head alone, for one epoch
    rate = optim.OneCycle(
        base,
        total_steps=len(data),
        warmup_fraction=0.99,
        final_div_factor=4e3,
    )
    step = loops.TrainStep(
        model, LOSS, adam(rate), variables="head"
    )
    loops.train(step, data, epochs=1)

    # unfrozen: slice(base / 2 / 100, base / 2)
    groups = optim.layerwise_decay(
        model, decay=1 / 100, blocks=SPLIT
    )
    rate = optim.OneCycle(
        base / 2,
        total_steps=2 * len(data),
        div_factor=5,
        final_div_factor=2e4,
    )
    optimizer = optim.GroupedOptimizer(
        adam(rate), optim.partition(model, groups)
    )
    step = loops.TrainStep(model, LOSS, optimizer)
    loops.train(step, data, epochs=2)
    rates = list(optimizer.learning_rates.values())
    assert abs(rates[0] / rates[1] - 1 / 100) < 1e-6


def gradloop_slices(model):
    # slice(1e-5, 1e-3)
    spread = optim.discriminative(
        model, 1e-5, 1e-3, groups=2
    )
    rates = [g.learning_rate for g in spread.values()]
    assert rates == [1e-5, 1e-3]

    # slice(1e-3): a tenth for all but the last group
    tenth = {
        "body": optim.Group("hidden", lr_scale=0.1),
        "head": "head",
    }
    optimizer = optim.GroupedOptimizer(
        adam(1e-3), optim.partition(model, tenth)
    )
    rates = list(optimizer.learning_rates.values())
    assert abs(rates[0] - 1e-4) < 1e-9


def gradloop_lr_find(model, x, y):
    step = loops.TrainStep(
        model, LOSS, keras.optimizers.SGD(0.1)
    )
    data = loops.Batches(x, y, 16)
    curve = optim.lr_range_test(
        step,
        data,
        lowest=1e-4,
        highest=10.0,
        steps=100,
    )
    # curve.plot() draws it
    assert 1e-3 < curve.suggestion < 10.0


def gradloop_one_cycle(model, x, y):
    data = loops.Batches(x, y, 16)
    rate = optim.OneCycle(
        1e-3,
        total_steps=3 * len(data),
        warmup_fraction=0.25,
        div_factor=25,
        final_div_factor=4e3,  # from the start: 1e5 / 25
    )
    step = loops.TrainStep(model, LOSS, adam(rate))
    loops.train(step, data, epochs=3)
    assert abs(float(rate(0)) - 1e-3 / 25) < 1e-9
    assert abs(float(rate(11)) - 1e-3 / 1e5) < 1e-9


def gradloop_freeze(model, x, y):
    plan = optim.partition(
        model, {"body": "hidden", "head": "head"}
    )
    optimizer = optim.GroupedOptimizer(
        adam(1e-3), plan
    )
    step = loops.TrainStep(model, LOSS, optimizer)
    data = loops.Batches(x, y, 16)

    optimizer.freeze("body")  # freeze_to(-1)
    loops.train(step, data, epochs=1)
    optimizer.unfreeze("body")  # unfreeze()
    loops.train(step, data, epochs=1)

    # or in one run, by epoch
    unfreeze = loops.Unfreeze({0: "head", 1: "body"})
    loops.train(
        step, data, epochs=2, callbacks=[unfreeze]
    )
    assert len(step.variables) == 4
