"""What is measured on watched steps equals a loop by hand, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from gradloop import loops, optim
from gradloop.loops.device.device_loop import DeviceLoop
from gradloop.loops.step.watch_schedule import Interval
from gradloop.loops.step.watcher import Watcher
from tests.loops.step.watched import (
    LOSS,
    Seen,
    Unfreeze,
    X,
    Y,
    assert_equal,
    by_hand,
    data,
    grouped,
    model,
    plain,
)
from tests.programs import Program
from tests.tolerance import rounding

RATES = rounding()  # Keras computes a rate in float32, whatever the model's dtype


def run(*callbacks: Any, epochs: int = 2, make: Any = plain, **options: Any) -> loops.TrainStep:
    network = model()
    step = loops.TrainStep(network, LOSS, make(network), **options)
    loops.train(step, data(), epochs=epochs, callbacks=callbacks)
    return step


@pytest.mark.numbers
@pytest.mark.parametrize("batch_hook", [False, True])
def test_a_plain_optimizer_is_one_group(batch_hook: bool) -> None:
    two, every = Seen(every=2), Seen(every=1)
    hook = keras.callbacks.LambdaCallback()
    hook.on_train_batch_end = lambda batch, logs=None: None
    step = run(two, every, *([hook] if batch_hook else []), clip_norm=0.3)
    expected = by_hand(6, clip=0.3)
    assert {each["clipped/all"] for each in expected.values()} == {0.0, 1.0}
    assert_equal(every.seen, expected, RATES)
    assert_equal(two.seen, {number: expected[number] for number in (2, 4, 6)}, RATES)
    times = [each.time for each in every.seen.values()]
    assert all(each is not None and each.ended >= each.began and each.examples == 8 for each in times)
    assert step.traces == 1, "every step was watched, so the plain one was never traced"


@pytest.mark.numbers
def test_groups_and_variables_of_a_plan_that_unfreezes() -> None:
    groups, heads = Seen(every=1), Seen(variables="head", every=3)
    run(groups, heads, Unfreeze(), make=grouped)
    expected = by_hand(6, unfreezes=True)
    assert_equal(groups.seen, expected, RATES)
    assert "grad_norm/body" not in expected[3] and "grad_norm/body" in expected[4]
    assert list(heads.seen) == [3, 6]
    scalars = heads.seen[6].scalars
    assert {tag.partition("/")[2] for tag in scalars} == {"head/kernel", "head/bias", "all"}
    for quantity in ("grad_norm", "weight_norm"):
        both = np.hypot(scalars[f"{quantity}/head/kernel"], scalars[f"{quantity}/head/bias"])
        np.testing.assert_allclose(both, groups.seen[6].scalars[f"{quantity}/head"], RATES)


@pytest.mark.numbers
@pytest.mark.parametrize("make", [plain, lambda model: keras.optimizers.LossScaleOptimizer(plain(model))])
def test_accumulated_gradients_are_measured_at_their_update(make: Any) -> None:
    seen = Seen(every=3)
    run(seen, make=make, epochs=4, accumulate=2, carry=True)
    expected = by_hand(12, accumulate=2)
    scales = [each.scalars.pop("loss_scale/all", None) for each in seen.seen.values()]
    # The first updates from 3, 6, 9 and 12 on.
    assert_equal(seen.seen, {number: expected[number] for number in (4, 6, 10, 12)}, RATES)
    assert scales == [None if make is plain else 2.0**15] * 4


@pytest.mark.parametrize("fixed", [False, True])
def test_mixed_float16_gradients_are_not_scaled(fixed: bool) -> None:
    keras.config.set_dtype_policy("mixed_float16")

    def make(model: keras.Model) -> keras.optimizers.Optimizer:
        scaled = keras.optimizers.LossScaleOptimizer(plain(model), initial_scale=1.0 if fixed else 256.0)
        scaled.inner_optimizer.loss_scale_factor = 256.0 if fixed else None
        return scaled

    seen = Seen(every=1)
    run(seen, make=make, epochs=1)
    assert {each.scalars.pop("loss_scale/all") for each in seen.seen.values()} == {256.0}
    assert_equal(seen.seen, by_hand(3, scale=256.0), rounding("float16"))


def test_a_step_that_was_skipped_measures_nothing_and_is_counted() -> None:
    seen, others = Seen(every=2), Seen(every=3)
    x = np.where(np.arange(24)[:, None] // 8 == 1, np.nan, X)  # the second of three batches
    step = loops.TrainStep(network := model(), LOSS, plain(network), on_nonfinite="skip")
    loops.train(step, loops.Batches(x, Y, 8, shuffle=False), epochs=2, callbacks=[seen, others])
    assert seen.seen[2].scalars == {"skipped/all": 0.5}
    assert [each.scalars["skipped/all"] for each in seen.seen.values()] == [0.5, 0.0, 0.5]
    assert [each.scalars["skipped/all"] for each in others.seen.values()] == [1 / 3, 1 / 3]
    assert others.seen[3].scalars["grad_norm/all"] > 0


@pytest.mark.parametrize(
    ("accumulate", "every", "watched"),
    [(1, 3, [3, 6]), (2, 3, [5, 7])],  # by twos, step 4 would make the update from 3 on, and is skipped
)
def test_a_run_that_resumes_is_watched_as_one_that_goes_on(
    tmp_path: Path, accumulate: int, every: int, watched: list[int]
) -> None:
    x = np.where(np.isin(np.arange(24) // 6, (0, 3))[:, None], np.nan, X)  # the first and the last of four
    if accumulate == 2:
        x = np.where(np.arange(24)[:, None] // 6 == 3, np.nan, X)

    def seen_in(folder: str, *epochs: int) -> dict[int, Any]:
        seen = Seen(every=every, histograms="kernel", histograms_every=every)
        for last in epochs:
            step = loops.TrainStep(
                network := model(),
                LOSS,
                plain(network),
                on_nonfinite="skip",
                accumulate=accumulate,
                carry=True,
            )
            batches = loops.Batches(x, Y, 6, shuffle=False)
            checkpoint = loops.Checkpoint(tmp_path / folder, verbose=0)
            loops.train(step, batches, epochs=last, callbacks=[seen], checkpoint=checkpoint)
        return {number: measured.scalars for number, measured in seen.seen.items()}

    whole = seen_in("whole", 2)
    assert list(whole) == watched and {each["skipped/all"] for each in whole.values()} & {1 / 3, 1 / 5}
    assert seen_in("cut", 1, 2) == whole


@pytest.mark.numbers
def test_histograms_of_weights_and_gradients() -> None:
    seen, network = Seen(variables=None, histograms="kernel", histograms_every=2), model()
    before: list[Any] = []
    hook = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: before.append(network.get_weights()))
    rate = 0.5
    step = loops.TrainStep(network, LOSS, keras.optimizers.SGD(rate))
    loops.train(step, data(), epochs=4, steps_per_epoch=1, callbacks=[seen, hook])
    assert list(seen.seen) == [2, 4] and not seen.seen[2].scalars
    names = ["body/kernel", "head/kernel"]
    assert set(seen.seen[2].histograms) == {f"{what}/{n}" for what in ("weights", "gradients") for n in names}
    for name, index in zip(names, (0, 2)):
        weights = before[1][index]
        for what, value in (("weights", weights), ("gradients", (weights - before[2][index]) / rate)):
            counts, edges = np.histogram(value, 30)
            found = seen.seen[2].histograms[f"{what}/{name}"]
            np.testing.assert_allclose(found.edges, edges, 1e-9)
            np.testing.assert_array_equal(found.counts, counts)


@pytest.mark.parametrize("limit", [{"clipnorm": 0.1}, {"clipvalue": 0.05}, {"global_clipnorm": 0.2}])
@pytest.mark.parametrize("clips", [True, False])
def test_limits_of_the_optimizer_count_as_clipping(limit: dict[str, float], clips: bool) -> None:
    limit = limit if clips else {name: 1e3 for name in limit}
    seen = Seen(every=1)
    run(seen, make=lambda model: keras.optimizers.SGD(0.1, **limit), epochs=1)
    assert {each.scalars["clipped/all"] for each in seen.seen.values()} == {float(clips)}


@pytest.mark.parametrize("make", [plain, grouped, lambda _: keras.optimizers.Adam(0.1, use_ema=True)])
def test_watching_changes_no_number(make: Any) -> None:
    watched, other = run(Seen(every=2), make=make), run(make=make)
    for name, variable in watched.state().items():
        np.testing.assert_array_equal(variable.numpy(), other.state()[name].numpy(), err_msg=name)


def test_the_plain_step_has_no_further_operation() -> None:
    def operations(*callbacks: Any) -> int:
        loop = (step := run(*callbacks))._steps.current().loop
        assert isinstance(loop, DeviceLoop)
        traced = [each for known in loop._traces._functions.values() for _, each in known]
        graph = traced[0].graph.as_graph_def()
        assert len(traced) == 1 and step.traces == 1 + len(callbacks)
        return sum(len(each.node_def) for each in graph.library.function) + len(graph.node)

    assert operations(Seen(every=2)) == operations()


def test_steps_count_on_from_one_run_to_the_next() -> None:
    seen = Seen(every=4)
    step = run(seen, epochs=1)
    loops.train(step, data(), epochs=2, callbacks=[seen])
    assert list(seen.seen) == [4, 8]
    loops.train(step, data(), epochs=2)
    assert list(seen.seen) == [4, 8], "a run without a watch"


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"every": 0}, ValueError, "`every` must be at least 1, got 0"),
        ({"every": 1.5}, TypeError, "`every` must be a whole number"),
        ({"histograms_every": 0}, ValueError, "`histograms_every` must be at least 1"),
        (
            {"variables": "bodi"},
            optim.SelectionError,
            "`watch` chooses nothing: name\\('bodi'\\) matches none",
        ),
        ({"histograms": "bodi"}, optim.SelectionError, "`histograms` .*: name\\('bodi'\\) matches none"),
        ({"activations": "bodi"}, optim.SelectionError, "`activations` .*: name\\('bodi'\\) matches none"),
        ({"variables": 3}, TypeError, "`filters` must be strings"),
    ],
)
def test_what_is_refused(wanted: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(Seen(**wanted))


def test_what_is_no_watch_is_refused() -> None:
    seen = Seen()
    seen.wanted = 10  # type: ignore[assignment]
    with pytest.raises(TypeError, match="`watch` of Seen returned 10: return a `loops.Watch"):
        run(seen)


def test_parameter_servers_and_workers_that_differ_are_told() -> None:
    watcher = Watcher(network := model(), plain(network), 1)
    with pytest.warns(UserWarning, match="No step is watched, as with parameter servers"):
        watcher.start([loops.Watch()], None, True)
    others = iter([0.5, 1.0])  # the mean of what both say, then that of how far each is from it
    with pytest.warns(
        UserWarning, match="No step is watched, as the callbacks of the workers want different"
    ):
        watcher.start([loops.Watch()], lambda number: next(others), False)
    assert watcher.steps_in_next_call(100, lambda: 9, lambda: 0) == 100
    watcher.start([], None, True)  # nobody asked
    watcher.start([loops.Watch()], None, False)
    ran = iter([0, 9])
    assert [watcher.steps_in_next_call(100, lambda: next(ran), lambda: 0) for _ in range(2)] == [9, 1]


def test_a_watch_for_nothing_watches_nothing() -> None:
    seen, other = Seen(variables=None), Seen(every=3)
    assert run(seen, other).traces == 2
    assert not seen.seen and list(other.seen) == [3, 6]


@pytest.mark.parametrize(("every", "accumulate", "done"), [(10, 1, 0), (10, 4, 0), (3, 4, 5), (10, 4, 27)])
def test_the_steps_are_the_first_updates_from_multiples_on(every: int, accumulate: int, done: int) -> None:
    schedule, found = Interval(every), []
    schedule.start(done)
    for number in range(done + accumulate, 100, accumulate):
        if schedule.next_step(number, accumulate) == number:
            found.append(number)
            assert schedule.advance(number)
    updates = range(done + accumulate, 100, accumulate)
    multiples = [number for number in range(every, 100, every) if done < number <= updates[-1]]
    assert found == sorted({min(u for u in updates if u >= number) for number in multiples})


@pytest.mark.numbers
@pytest.mark.parametrize(
    "replicas", [pytest.param(2, marks=pytest.mark.release), pytest.param(4, marks=pytest.mark.long)]
)
def test_replicas_measure_what_one_device_does(replicas: int, tmp_path: Path) -> None:
    Program(Path(__file__).parent / "programs" / "watching.py", replicas, folder=tmp_path).finish()
