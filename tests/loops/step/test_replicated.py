"""`replicated`: which strategy runs a step, and what goes in and comes out; on two replicas, see the last."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from tests.programs import Program

pytestmark = pytest.mark.numbers

# `gradloop.loops.step.replicated` is the function.
MODULE = importlib.import_module("gradloop.loops.step.replicated")


def one():
    return tf.distribute.MirroredStrategy(["/cpu:0"])


def recording():
    """A step, and the strategies that it was traced under."""
    seen = []

    def step(x):
        seen.append(tf.distribute.get_strategy() if tf.distribute.has_strategy() else None)
        return x * 2.0

    return step, seen


def test_the_strategy_is_that_of_the_decoration():
    step, seen = recording()
    home, other = one(), one()
    with home.scope():
        decorated = loops.replicated(step)
    assert float(decorated(1.0)) == 2.0
    with home.scope():
        assert float(decorated(1.0)) == 2.0
    assert seen == [home]
    # TensorFlow enters no scope inside of another one.
    with other.scope(), pytest.raises(RuntimeError, match="Mixing different tf.distribute.Strategy"):
        decorated(1.0)


def test_a_step_decorated_in_no_scope_runs_in_that_of_the_call():
    step, seen = recording()
    decorated = loops.replicated(step)
    first, second = one(), one()
    assert decorated(1.0).numpy() == 2.0
    for strategy in (first, second, first):
        with strategy.scope():
            assert decorated(1.0).numpy() == 2.0
    assert seen == [None, first, second], "each strategy's function is kept"
    # Within a replica, it is part of what runs there.
    assert float(first.run(lambda: decorated(tf.constant(3.0)))) == 6.0


def test_results_of_one_replica_are_those_of_the_step():
    def step(x, pair, name=None):
        return {"rows": x, "sum": tf.reduce_sum(pair[0]), name: (tf.reduce_any(x > 1.0), pair[1])}

    arguments = np.arange(3.0), (np.ones(3), 7)
    with one().scope():
        inside = loops.replicated(step)(*arguments, name="rest")
    alone = loops.replicated(step)(*arguments, name="rest")
    tf.nest.assert_same_structure(inside, alone)
    for found in (inside, alone):
        assert found["rows"].numpy().tolist() == [0, 1, 2] and float(found["sum"]) == 3.0
        assert bool(found["rest"][0]) and int(found["rest"][1]) == 7


def test_arrays_of_different_lengths():
    """On one replica too, so that a script is told on the first machine it runs on."""
    with one().scope():
        step = loops.replicated(lambda x, rest: x)
    with pytest.raises(ValueError, match=r"arrays of lengths \[2, 4\]: .* Pass a scalar or a closure"):
        step(np.ones(2), {"y": np.ones((4, 1)), "rate": 0.1})
    assert step(np.ones(2), {"y": np.ones((2, 1)), "rate": 0.1}).shape == (2,)


def test_what_is_no_function():
    with pytest.raises(TypeError, match="`step` must be a function of tensors, not 3"):
        loops.replicated(3)


def test_parameter_servers_have_no_replicas(monkeypatch):
    monkeypatch.setattr(MODULE, "is_asynchronous", lambda strategy: True)
    step, seen = recording()
    with one().scope(), pytest.raises(ValueError, match="under parameter servers, .*: use `TrainStep`"):
        loops.replicated(step)(1.0)
    assert seen == []


def test_two_replicas_split_nests_and_add_up_scalars(tmp_path):
    Program(Path(__file__).parent / "programs" / "replicated.py", folder=tmp_path).finish()
