"""State by name: what does not fit is listed, names survive files, and checks come before values."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.optimizer.named_state import (
    StateError,
    TrackedState,
    check_state,
    read_store,
    write_store,
)

WANTED = {"a/kernel/momentum": (3, 2), "a/bias/momentum": (2,)}


def test_the_same_names_and_shapes():
    check_state(dict(WANTED), WANTED)
    check_state(dict(reversed(WANTED.items())), WANTED)
    check_state({}, {})


@pytest.mark.parametrize(
    "saved, match",
    [
        ({}, r"plan: 2 missing from it \(a/kernel/momentum, a/bias/momentum\)\. The optimizer is as it was"),
        ({**WANTED, "b/m": (1,)}, r"plan: 1 not in this plan \(b/m\)\. The optimizer"),
        (
            {**WANTED, "a/bias/momentum": (3,)},
            r"plan: 1 of another shape \(a/bias/momentum \(3,\) for \(2,\)\)\. The optimizer",
        ),
        (
            {"a/kernel/momentum": (2, 3), "b/m": ()},
            r"1 missing from it \(a/bias/momentum\); 1 not in this plan \(b/m\); 1 of another shape \(a/k",
        ),
        ({f"x{n}": () for n in range(7)}, r"7 not in this plan \(x0, x1, x2, x3, x4 and 2 more\)"),
    ],
)
def test_what_does_not_fit_is_listed(saved, match):
    with pytest.raises(StateError, match=match):
        check_state(saved, WANTED)
    with pytest.raises(
        ValueError, match=r"to load what fits, load within `with optimizer.partial_load\(\):`"
    ):
        check_state(saved, WANTED)


def test_names_survive_a_store(tmp_path):
    arrays = {
        "a/kernel/momentum": np.ones((2, 3)),
        "a": np.array(3),
        "100%/ä%2F.x/y": np.zeros(1, "float32"),
        "..": np.array(1.5),
    }
    with h5py.File(tmp_path / "store.h5", "w") as store:
        write_store(store, arrays)
        assert all("/" not in name.strip("/") for name in store)
    with h5py.File(tmp_path / "store.h5") as store:
        found = read_store(store)
    assert sorted(found) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def tracked(value, restore):
    variable = keras.Variable(np.full((2,), value, "float32"))
    return variable, TrackedState({"a/kernel/m": variable}, lambda: {"a/kernel": 7}, restore)


def test_numbers_and_shapes_come_before_values(tmp_path):
    _, state = tracked(5.0, None)
    path = tf.train.Checkpoint(state=state).save(str(tmp_path / "ck"))
    seen = []
    variable, other = tracked(0.0, lambda counts, shapes: seen.append((counts, shapes, variable.numpy()[0])))
    tf.train.Checkpoint(state=other).restore(path).assert_consumed()
    assert seen == [({"a/kernel": 7}, {"a/kernel/m": (2,)}, 0.0)]
    np.testing.assert_array_equal(variable, [5, 5])


def test_refused_before_a_value_changes(tmp_path):
    _, state = tracked(5.0, None)
    path = tf.train.Checkpoint(state=state).save(str(tmp_path / "ck"))

    def refuse(counts, shapes):
        raise StateError("no")

    variable, other = tracked(0.0, refuse)
    with pytest.raises(StateError, match="no"):
        tf.train.Checkpoint(state=other).restore(path)
    np.testing.assert_array_equal(variable, [0, 0])
