"""Which checkpoints are kept: each policy by itself, together, and in runs."""

import math
import os
import pickle

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.checkpoint.retention import Entry, check_policies


def entries(steps=(), **metrics):
    """Entries 1, 2, ... with these steps, or these values of a metric."""
    (name, values), *_ = metrics.items() or [("", [None] * len(steps))]
    steps = steps or [None] * len(values)
    return [
        Entry(number, step, {} if value is None else {name: value}, {})
        for number, (step, value) in enumerate(zip(steps, values), 1)
    ]


@pytest.mark.parametrize(
    ("policy", "found", "kept"),
    [
        (loops.Latest(2), entries([5, 6, 7]), [2, 3]),
        (loops.Latest(9), entries([5, 6, 7]), [1, 2, 3]),
        (loops.Every(10), entries([5, 10, 15, 20, 25]), [2, 4]),
        (loops.Every(10), entries([7, 14, 21, 28, 35]), [2, 3, 5]),
        (loops.Every(10), entries([4, 9]), []),
        # What was removed before changes nothing.
        (loops.Every(10), entries([14, 21, 35, 37]), [1, 2, 3]),
        # A new run in the same folder.
        (loops.Every(10), entries([10, 20, 5, 10, 12]), [1, 2, 4]),
        (loops.Every(10), entries([None, 12]), [2]),
        (loops.Best("val_loss"), entries(val_loss=[3.0, 1.0, 2.0, 1.0]), [2]),
        (loops.Best("loss", count=3), entries(loss=[3.0, 1.0, 2.0, 1.0]), [2, 4, 3]),
        (loops.Best("score", mode="max"), entries(score=[3.0, math.nan, math.inf, None]), [3]),
        (loops.Best("loss"), entries(loss=[math.nan, None]), []),
        (loops.Best("score"), entries(score=[3.0, 2.0]), [1, 2]),  # nobody knows which is better
        (
            loops.Best("score"),
            [Entry(1, 0, {"score": 1}, {"score": "max"}), Entry(2, 0, {"score": 2}, {})],
            [2],
        ),
    ],
)
def test_what_a_policy_keeps(policy, found, kept):
    assert list(policy.keeps(found)) == kept
    assert pickle.loads(pickle.dumps(policy)) == policy and hash(policy)


@pytest.mark.parametrize("seed", range(5))
def test_pruned_one_by_one_the_same_are_left(seed):
    """What is left after each save is what the policies would keep of all that there ever were."""
    random = np.random.default_rng(seed)
    steps = np.cumsum(random.integers(1, 9, 40)).tolist()
    every = entries(steps, loss=random.permutation(40).astype(float).tolist())
    policies = [loops.Latest(2), loops.Best("loss", count=2), loops.Every(20)]
    left = []
    for entry in every:
        left.append(entry)
        kept = {number for policy in policies for number in policy.keeps(left)}
        left = [one for one in left if one.number in kept]
    first = {step // 20: number for number, step in reversed(list(enumerate(steps, 1))) if step >= 20}
    best = sorted(range(40), key=lambda index: every[index].metrics["loss"])[:2]
    assert {one.number for one in left} == {39, 40, *first.values(), *(index + 1 for index in best)}


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        ([], ValueError, "`keep` is empty, so no checkpoint would stay: pass how many"),
        (loops.Latest(3), TypeError, r"`keep` must be a number or a list: write keep=\[Latest\(count=3\)\]"),
        (
            [loops.Latest(3), 3],
            TypeError,
            "`keep` holds 3, which says of no checkpoint whether to keep it: use",
        ),
        ([loops.Latest], TypeError, "`keep` holds <class '.*Latest'>, which says of no checkpoint"),
        (["val_loss"], TypeError, "`keep` holds 'val_loss'"),
        ("val_loss", TypeError, "`keep` must be a whole number of at least 1, got 'val_loss'"),
        ({loops.Latest()}, TypeError, "`keep` must be a whole number"),
    ],
)
def test_what_keeps_nothing_is_refused(keep, error, message):
    with pytest.raises(error, match=message):
        loops.Checkpoint("folder", keep=keep)


@pytest.mark.parametrize(
    ("policy", "options", "error", "message"),
    [
        (loops.Latest, {"count": 0}, ValueError, "`count` must be at least 1, got 0"),
        (loops.Latest, {"count": "3"}, TypeError, "`count` must be a whole number of at least 1, got '3'"),
        (loops.Every, {"steps": 0}, ValueError, "`steps` must be at least 1, got 0"),
        (loops.Every, {"steps": 1e4}, TypeError, "`steps` must be a whole number of at least 1, got 10000.0"),
        (loops.Best, {"metric": ""}, TypeError, "`metric` must be a name in the logs, .* not ''"),
        (
            loops.Best,
            {"metric": "a", "mode": "most"},
            ValueError,
            '`mode` must be "auto", "min" or "max", not',
        ),
        (loops.Best, {"metric": "a", "count": 0}, ValueError, "`count` must be at least 1, got 0"),
    ],
)
def test_bad_policies_are_refused(policy, options, error, message):
    with pytest.raises(error, match=message):
        policy(**options)


class Scores(keras.callbacks.Callback):
    """Logs a score of each epoch."""

    def __init__(self, name, *scores):
        super().__init__()
        self.name, self.scores = name, scores

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.scores[epoch]


def names(folder):
    return sorted(int(name.partition("-")[2]) for name in os.listdir(folder))


def test_a_run_keeps_what_any_policy_says(tiny, tmp_path):
    keep = [loops.Latest(1), loops.Best("val_loss", mode="max"), loops.Every(steps=8)]
    checkpoint = loops.Checkpoint(tmp_path, keep=keep)
    scores = Scores("val_loss", 1.0, 5.0, 2.0, 3.0, 4.0, 1.0)  # after 3, 6, 9, 12, 15 and 18 steps
    loops.train(tiny.step(), tiny.data(), epochs=6, callbacks=[scores], checkpoint=checkpoint)
    assert names(tmp_path) == [2, 3, 6]
    assert checkpoint.best == str(tmp_path / "checkpoint-2")
    least = loops.Checkpoint(tmp_path, keep=[loops.Best("val_loss")])
    assert least.best == str(tmp_path / "checkpoint-6")
    os.remove(tmp_path / "checkpoint-6" / "state.index")
    assert least.best == str(tmp_path / "checkpoint-3"), "one that is damaged is not the best"


def test_the_newest_stays_for_a_run_to_go_on_from(tiny, tmp_path):
    checkpoint = loops.Checkpoint(tmp_path, keep=[loops.Best("val_loss")], every_steps=2, verbose=0)
    run = {"callbacks": [Scores("val_loss", 1.0, 2.0, 3.0)], "checkpoint": checkpoint}
    loops.train(tiny.step(), tiny.data(), epochs=2, **run)
    assert names(tmp_path) == [2, 4] and checkpoint.best.endswith("checkpoint-2")
    assert loops.train(tiny.step(), tiny.data(), epochs=3, **run).epoch == [0, 1, 2]


@pytest.mark.parametrize("metric", ["val_accuracy", "loss"])
def test_the_best_one_is_that_of_keras(tiny, metric, tmp_path):
    """By the same metric, and as little told which way is better."""

    class Labels(type(tiny)):
        y = np.eye(2, dtype="float32")[[0, 1] * 6]

    tiny, saved = Labels(), []
    monitor = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor=metric, save_best_only=True)
    monitor._save_model_to_file = lambda *arguments: None
    monitor.model_saved = saved
    checkpoint = loops.Checkpoint(tmp_path / "kept", keep=[loops.Best(metric)])
    step = tiny.step(optimizer=keras.optimizers.SGD(0.5), metrics=["accuracy"])
    history = loops.train(
        step, tiny.data(), epochs=4, validation=tiny.data(), callbacks=[monitor], checkpoint=checkpoint
    ).history[metric]
    best = history.index(monitor.best)
    assert checkpoint.best == str(tmp_path / "kept" / f"checkpoint-{best + 1}")


def test_a_metric_that_is_not_logged_ends_the_first_epoch(tiny, tmp_path):
    step = tiny.step()
    run = {"epochs": 9, "callbacks": [Scores("val_score", *range(9))]}
    for metric, message in (
        ("val_los", r"Best\(metric='val_los', .* not logged: logged are loss, val_score. Did you mean"),
        ("val_score", "whether less or more of 'val_score' is better is not known: say mode=\"min\" or"),
    ):
        checkpoint = loops.Checkpoint(tmp_path, every_epochs=5, keep=[loops.Latest(), loops.Best(metric)])
        with pytest.raises(ValueError, match=message):
            loops.train(step, tiny.data(), checkpoint=checkpoint, resume=False, **run)
    assert int(step.batches_done.numpy()) == 3 + 3


def test_what_a_run_logs_only_later_has_a_best(tiny, tmp_path):
    loops.train(tiny.step(), tiny.data(), epochs=2, checkpoint=tmp_path)
    checkpoint = loops.Checkpoint(tmp_path, keep=[loops.Latest(), loops.Best("val_score", mode="max")])
    run = {"epochs": 6, "callbacks": [Scores("val_score", 0, 0, 3, 5, 4, 1)], "checkpoint": checkpoint}
    history = loops.train(tiny.step(), tiny.data(), **run).history
    assert len(history["val_score"]) == 4 and checkpoint.best == str(tmp_path / "checkpoint-4")


def test_loops_of_ones_own_tell_their_metrics(tiny, tmp_path):
    step, checkpoint = tiny.step(), loops.Checkpoint(
        tmp_path, keep=[loops.Latest(), loops.Best("val_accuracy")]
    )
    with pytest.raises(ValueError, match=r"'val_accuracy' is not logged: logged are loss. .*metrics=\{"):
        checkpoint.save(step, metrics={"loss": 0.5})
    assert checkpoint.newest is None and checkpoint.best is None
    for value in (np.float32(0.5), 0.75, 0.25):
        checkpoint.save(step, metrics={"val_accuracy": value})
    checkpoint.save(step)  # between two evaluations
    assert [path.name for path in sorted(tmp_path.glob("checkpoint-*"))] == ["checkpoint-2", "checkpoint-4"]
    assert checkpoint.best == str(tmp_path / "checkpoint-2")
    for metrics in ([0.5], {"val_accuracy": "high"}, {"val_accuracy": "1"}, {"loss": 10**400}, {3: 0.5}):
        with pytest.raises(TypeError, match="`metrics` must map names to numbers, as in .* not "):
            checkpoint.save(step, metrics=metrics)


def test_a_loop_that_is_stopped_before_its_first_evaluation_is_saved(tiny, tmp_path):
    step, checkpoint = tiny.step(), loops.Checkpoint(tmp_path, keep=[loops.Best("val_loss")])
    with pytest.warns(UserWarning, match=r"'val_loss' is not known yet: until `save\(..., metrics=") as told:
        checkpoint.save(step)
    assert told[0].filename == __file__
    checkpoint.save(step, metrics={"val_loss": 0.5})
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


def test_without_a_best_nothing_says_which_is(kept):
    with pytest.raises(ValueError, match=r"No metric says which is best: pass `keep=\[loops.Latest\(3\), "):
        _ = loops.Checkpoint(kept).best


def test_steps_that_nobody_counts():
    with pytest.raises(ValueError, match=r"`keep` has Every\(steps=5\), and what is saved counts no steps"):
        check_policies([loops.Every(5)], entries(loss=[1.0]))
