"""The state of a step: assigned back, it is an exact rewind."""

import keras
import numpy as np
import pytest

from gradloop import loops, optim
from tests.loops.step.stateful import X, Y, make_model, make_step
from tests.values import assert_same, numbers


def rewind(step, values):
    for name, variable in step.state().items():
        variable.assign(values[name])


def single_steps(step):
    return [numbers(step(X[n : n + 8], Y[n : n + 8])) for n in (0, 8, 16)]


def many_steps(step):
    return [step.run(loops.Batches(X, Y, 8).iterator(), 3)]


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "averages": lambda: keras.optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=2),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 9)),
}


REWOUND = [("adam", "mixed_float16", 2, many_steps), ("averages", "mixed_bfloat16", 1, single_steps)]
OTHERS = [("schedule", "mixed_bfloat16", 1, single_steps), ("nadam", "mixed_float16", 1, many_steps)]
ON_REQUEST = [("ftrl", "float32", 2, many_steps), ("momentum", "float32", 1, single_steps)]
ON_REQUEST += [
    (optimizer, policy, accumulate, single_steps if run is many_steps else many_steps)
    for optimizer, policy, accumulate, run in (*REWOUND, *OTHERS, *ON_REQUEST)
]


@pytest.mark.parametrize(
    "optimizer, policy, accumulate, run",
    [
        *REWOUND,
        *(pytest.param(*case, marks=pytest.mark.release) for case in OTHERS),
        *(pytest.param(*case, marks=pytest.mark.long) for case in ON_REQUEST),
    ],
)
def test_an_exact_rewind(optimizer, policy, accumulate, run):
    keras.config.set_dtype_policy(policy)
    step = make_step(OPTIMIZERS[optimizer](), accumulate=accumulate, clip_norm=1.0)
    for _ in range(2):  # from a step that was never run, and from the middle of an update
        before = numbers(step.state())
        losses = run(step)
        after = numbers(step.state())
        assert any(not np.array_equal(before[name], after[name]) for name in before)
        rewind(step, before)
        assert_same(numbers(step.state()), before)
        for once, again in zip(losses, run(step), strict=True):
            assert_same(once, again)
        assert_same(numbers(step.state()), after)


def test_a_rewind_over_an_overflow():
    keras.config.set_dtype_policy("mixed_float16")
    step = make_step()
    x = X.copy()
    x[9] = np.inf
    before = numbers(step.state())
    step.run(loops.Batches(x, Y, 8, shuffle=False).iterator(), 3)
    assert float(step.state()["optimizer/dynamic_scale"]) == before["optimizer/dynamic_scale"] / 2
    rewind(step, before)
    assert_same(numbers(step.state()), before)


def test_an_exact_rewind_of_groups():
    model = make_model()
    plan = optim.partition(
        model, {"head": optim.Group("head", lr_scale=0.1), "rest": optim.Group(~optim.name("head"))}
    )
    optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(0.01), plan)
    step = loops.TrainStep(model, "binary_crossentropy", optimizer, accumulate=2)
    many_steps(step)  # half of an update waits
    before = numbers(step.state())
    losses, after = many_steps(step), numbers(step.state())
    rewind(step, before)
    for once, again in zip(losses, many_steps(step), strict=True):
        assert_same(once, again)
    assert_same(numbers(step.state()), after)
    assert not any("variable" in name for name in after)


def test_an_evaluation_has_the_model_and_its_metrics():
    metric = keras.metrics.AUC(num_thresholds=20, name="auc")
    step = loops.EvalStep(make_model(), "binary_crossentropy", [metric])
    assert not any(name.startswith(("optimizer", "accumulated")) for name in step.state())
    before = numbers(step.state())
    once, counter = numbers(step(X, Y)), "metrics/auc/true_positives"
    assert not np.array_equal(numbers(step.state())[counter], before[counter])
    rewind(step, before)
    assert_same(numbers(step(X, Y)), once)
