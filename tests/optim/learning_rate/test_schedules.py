"""OneCycle beside PyTorch's numbers and formula, SlantedTriangular beside ULMFiT's formula."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import OneCycle, SlantedTriangular

# torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1) of PyTorch 2.13: get_last_lr() of every step.
TORCH = [
    (
        {"total_steps": 10},
        [0.004, 0.052, 0.1, 0.095048463, 0.081174565, 0.061126202, 0.038874198, 0.018825835]
        + [0.0049519368, 4e-07],
    ),
    (
        {"total_steps": 10, "anneal": "linear"},
        [0.004, 0.052, 0.1, 0.085714343, 0.071428686, 0.057143029, 0.042857371, 0.028571714]
        + [0.014286057, 4e-07],
    ),
    (
        {"total_steps": 12, "three_phase": True},
        [0.004, 0.034978965, 0.087928516, 0.094501889, 0.046214239, 0.0053947928, 0.0038151693]
        + [0.0031224619, 0.002108467, 0.0010634768, 0.00028665702, 4e-07],
    ),
    (
        {"total_steps": 12, "three_phase": True, "anneal": "linear", "warmup_fraction": 0.4},
        [0.004, 0.029263158, 0.054526316, 0.079789474, 0.094947368, 0.069684211, 0.044421053]
        + [0.019157895, 0.0035294588, 0.0023531059, 0.0011767529, 4e-07],
    ),
    (
        {"total_steps": 7, "three_phase": True, "warmup_fraction": 0.5},
        [0.004, 0.037167184, 0.090832816, 0.090832816, 0.037167184, 0.004, 4e-07],
    ),
    (
        {"total_steps": 9, "warmup_fraction": 0.25, "div_factor": 10, "final_div_factor": 100},
        [0.01, 0.091405765, 0.096987646, 0.08432777, 0.064375821, 0.041376274, 0.020221928]
        + [0.0054130496, 0.0001],
    ),
    ({"total_steps": 5, "warmup_fraction": 1.0}, [0.004, 0.018058875, 0.052, 0.085941125, 0.1]),
    ({"total_steps": 4, "warmup_fraction": 0.0}, [0.085355398, 0.0500002, 0.014645002, 4e-07]),
    ({"total_steps": 3}, [0.099441544, 0.04626371, 4e-07]),
    ({"total_steps": 1}, [4e-07]),
]


@pytest.mark.parametrize(("arguments", "expected"), TORCH)
def test_one_cycle_has_pytorchs_numbers(arguments, expected):
    schedule = OneCycle(0.1, **arguments)
    found = [float(schedule(step)) for step in range(len(expected))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def one_cycle_reference(step, total, high, share, div, final, anneal, three):
    """The formula in float64, phase by phase."""
    start, end = high / div, high / div / final
    peak = share * total - 1
    phases = [(peak, start, high), (total - 1, high, end)]
    if three:
        phases = [(peak, start, high), (2 * peak, high, start), (total - 1, start, end)]
    begun = 0.0
    for finish, before, after in phases:
        if step <= finish or finish == total - 1:
            done = min((step - begun) / (finish - begun), 1.0)
            if anneal == "linear":
                return before + (after - before) * done
            return after + (before - after) / 2 * (1 + math.cos(math.pi * done))
        begun = finish


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("total", [37, 2000])
def test_one_cycle_follows_the_formula(anneal, three_phase, total):
    schedule = OneCycle(
        3e-3,
        total,
        warmup_fraction=0.45,
        div_factor=7,
        final_div_factor=1e4,
        anneal=anneal,
        three_phase=three_phase,
    )
    expected = [
        one_cycle_reference(step, total, 3e-3, 0.45, 7, 1e4, anneal, three_phase)
        for step in range(total + 10)
    ]
    # Relative: the last rates, 70,000 times smaller, count as much as the first.
    np.testing.assert_allclose(schedule(np.arange(total + 10)), expected, rtol=2e-5)


def slanted_reference(t, T, high, cut_frac, ratio):
    """Howard & Ruder 2018, equation 3, which is defined until it has come down."""
    cut = math.floor(T * cut_frac)
    p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
    return high * (1 + p * (ratio - 1)) / ratio


@pytest.mark.parametrize(("total", "cut", "ratio"), [(100, 0.1, 32), (1000, 0.25, 10), (64, 0.5, 2)])
def test_slanted_triangular_follows_the_papers_formula(total, cut, ratio):
    schedule = SlantedTriangular(0.01, total, cut_fraction=cut, ratio=ratio)
    expected = [slanted_reference(t, total, 0.01, cut, ratio) for t in range(total + 1)]
    np.testing.assert_allclose([schedule(t) for t in range(total + 1)], expected, rtol=1e-6)


def test_slanted_triangular_stops_where_the_formula_would_go_below_zero():
    # 109 steps make a cut of 10, as 100 do: the paper's line reaches its foot at step 100 and goes on.
    assert slanted_reference(109, 109, 0.32, 0.1, 32) < 0
    schedule = SlantedTriangular(0.32, 109)
    np.testing.assert_allclose(schedule([99, 100, 105, 109, 10**6]), [0.01 * (1 + 31 / 90), *[0.01] * 4])


SCHEDULES = [
    OneCycle(0.1, 50),
    OneCycle(0.1, 50, anneal="linear", three_phase=True),
    OneCycle(0.1, 10, warmup_fraction=0.1),  # a rise of no steps, where PyTorch divides by zero
    OneCycle(0.1, 1),
    SlantedTriangular(0.1, 50),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_stays_at_its_end_and_within_bounds(schedule):
    rates = schedule(np.arange(200)).numpy()
    assert np.isfinite(rates).all() and rates.min() > 0
    assert rates.max() <= np.float32(schedule.max_rate)
    late = [schedule.total_steps, 2**24 + 1, 2**31 + 1, 2**60]
    assert {float(schedule(tf.constant(step, tf.int64))) for step in late} == {float(rates[-1])}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_kind_of_step_gives_the_same_float32(schedule):
    traced = tf.function(schedule)
    for step in (0, 4, 17, 49, 60):
        expected = schedule(step)
        assert expected.dtype == tf.float32 and expected.shape == ()
        kinds = [
            *(tf.constant(step, dtype) for dtype in (tf.int32, tf.int64, tf.float32, tf.float64)),
            *(np.int64(step), float(step), keras.Variable(step, dtype="int64"), tf.Variable(step)),
        ]
        for kind in kinds:
            assert float(schedule(kind)) == float(expected), kind
        for kind in kinds[:4]:
            np.testing.assert_allclose(traced(kind), expected, rtol=1e-6)


def test_a_peak_of_no_steps_starts_at_the_peak():
    assert float(OneCycle(0.1, 10, warmup_fraction=0.1)(0)) == np.float32(0.1)


def test_steps_beyond_float32s_whole_numbers_are_told_apart():
    schedule = OneCycle(1.0, 2**25, warmup_fraction=0.0, anneal="linear", div_factor=1, final_div_factor=1e9)
    late = schedule(tf.constant([2**25 - 2, 2**25], tf.int64)).numpy()
    assert late[1] == np.float32(1e-9) and late[0] > 1e-9


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_drives_an_optimizer_eagerly_and_in_a_function(schedule):
    weight = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(schedule)
    optimizer.build([weight])
    update = tf.function(lambda: optimizer.apply([tf.constant([1.0])], [weight]))
    for step in range(4):
        before = weight.numpy()
        if step < 2:
            optimizer.apply([tf.constant([1.0])], [weight])
        else:
            update()
        np.testing.assert_allclose(before - weight.numpy(), schedule(step), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_config_and_serialization_round_trips(schedule):
    config = schedule.get_config()
    assert json.loads(json.dumps(config)) == config
    again = type(schedule).from_config(config)
    deserialized = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    optimizer = keras.optimizers.SGD(schedule)
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    for other in (again, deserialized):
        assert type(other) is type(schedule) and other.get_config() == config
    assert float(optimizer.learning_rate) == float(schedule(0))
    assert keras.saving.get_registered_name(type(schedule)) == f"gradloop>{type(schedule).__name__}"


def test_saves_with_a_compiled_model(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(OneCycle(0.1, 20, three_phase=True)), "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == float(np.float32(0.004))


def test_numpys_numbers_are_numbers():
    schedule = OneCycle(np.float32(0.5), np.int64(10), warmup_fraction=np.float64(0.5))
    assert (schedule.max_rate, schedule.total_steps) == (0.5, 10)
    assert type(schedule.get_config()["total_steps"]) is int


BOTH = [
    ({"max_rate": 0.0}, ValueError, "`max_rate` must be a finite number above 0, got 0"),
    ({"max_rate": -1e-3}, ValueError, "`max_rate` must be a finite number above 0, got -0.001"),
    ({"max_rate": math.nan}, ValueError, "`max_rate` must be a finite number above 0, got nan"),
    ({"max_rate": math.inf}, ValueError, "`max_rate` must be a finite number above 0, got inf"),
    ({"max_rate": True}, TypeError, "`max_rate` must be a number above 0, got True"),
    ({"max_rate": "0.1"}, TypeError, "`max_rate` must be a number above 0, got '0.1'"),
    ({"total_steps": 0}, ValueError, "`total_steps` must be at least 1, got 0"),
    ({"total_steps": 10.0}, TypeError, "`total_steps` must be a whole number of at least 1, got 10.0"),
    ({"total_steps": True}, TypeError, "`total_steps` must be a whole number of at least 1, got True"),
]
REFUSED = [
    *((cls, *case) for cls in (OneCycle, SlantedTriangular) for case in BOTH),
    (OneCycle, {"warmup_fraction": -0.1}, ValueError, "`warmup_fraction` .* at least 0 and at most 1"),
    (OneCycle, {"warmup_fraction": 1.1}, ValueError, "`warmup_fraction` .* got 1.1"),
    (OneCycle, {"warmup_fraction": 0.6, "three_phase": True}, ValueError, "at most 0.5 with `three_phase"),
    (OneCycle, {"div_factor": 0.5}, ValueError, "`div_factor` must be a finite number at least 1, got 0.5"),
    (OneCycle, {"final_div_factor": 0}, ValueError, "`final_div_factor` must be .* at least 1, got 0"),
    (OneCycle, {"anneal": "cosine"}, ValueError, "`anneal` must be 'cos' or 'linear', got 'cosine'"),
    (OneCycle, {"three_phase": 1}, TypeError, "`three_phase` must be True or False, got 1"),
    (SlantedTriangular, {"cut_fraction": 0.0}, ValueError, "`cut_fraction` .* above 0 and below 1, got 0"),
    (SlantedTriangular, {"cut_fraction": 1}, ValueError, "`cut_fraction` .* above 0 and below 1, got 1"),
    (SlantedTriangular, {"ratio": 0.5}, ValueError, "`ratio` must be a finite number at least 1, got 0.5"),
    (SlantedTriangular, {"total_steps": 9}, ValueError, "no step to rise in .* use at least 10 steps"),
]


@pytest.mark.parametrize(("cls", "arguments", "error", "message"), REFUSED)
def test_bad_arguments_are_refused(cls, arguments, error, message):
    with pytest.raises(error, match=message):
        cls(**{"max_rate": 0.1, "total_steps": 100, **arguments})
