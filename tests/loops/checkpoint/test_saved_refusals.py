"""Dicts that no checkpoint can hold, and those that a checkpoint was not made with."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.checkpoint.saved_objects import SavedObjects
from tests.loops.checkpoint.own_objects import Counter, Notes, dense, kept_in, with_update
from tests.values import assert_same

K = keras.optimizers

BAD = [
    ({}, ValueError, "`step` is an empty dict: name what is to be saved"),
    ({3: 1}, TypeError, "`step` has the key 3, which is no text"),
    ({"a/b": 1}, ValueError, "`step` has the key 'a/b': give it a name that is not empty, has no slash"),
    ({"": 1}, ValueError, "`step` has the key ''"),
    ({"gradloop": 1}, ValueError, "`step` has the key 'gradloop'"),
    (
        {"a": print},
        TypeError,
        "`step` has under 'a' <built-in function print> of builtin_function_or_method, ",
    ),
    ({"a": (n for n in "ab")}, TypeError, "of generator, which no checkpoint holds: it holds an `Update`"),
    ({"a": keras.Model}, TypeError, "of type, which no checkpoint holds"),
    ({"a": (1, 2)}, TypeError, r"'a' \(1, 2\) of tuple, .* JSON would give a list back; make it one"),
    ({"a": [{2}]}, TypeError, r"\{2\} of set in a list, which no checkpoint holds"),
    ({"a": {1: 2}}, TypeError, "'a' a dict with the key 1, which JSON would turn into text: make it text"),
    ({"a": np.array([None])}, TypeError, "'a' an array of object, which no checkpoint holds: save numbers"),
    ({"a": np.array(["b"])}, TypeError, "'a' an array of <U1"),
    ({"a": [np.complex64(1)]}, TypeError, "'a' an array of complex64 in a list, which no checkpoint holds"),
    ({"a": [np.zeros(2)]}, TypeError, "of ndarray in a list, .* give it a key of its own"),
    (
        {"a": [tf.Variable(1)]},
        TypeError,
        "of ResourceVariable in a list, .*: give it a key of its own in the",
    ),
    ({"a": {"b": keras.Sequential()}}, TypeError, "of Sequential in a dict, .*: give it a key of its own"),
    ({"a": np.ma.array([1], mask=[True])}, TypeError, "MaskedArray, .*: save its `.data` and its `.mask`"),
    ({"a": tf.constant(1)}, TypeError, "of EagerTensor, which no checkpoint holds: save its `.numpy..`"),
    ({"a": np.random.default_rng(0)}, TypeError, "save its `.bit_generator.state`, and set that after"),
    ({"a": tf.data.Dataset.range(2)}, TypeError, "pass one iterator, `iter.data.`, as `iterator`"),
    ({"a": keras.Sequential()}, ValueError, "`step` has under 'a' a model or layer without its variables: "),
    ({"a": keras.metrics.F1Score()}, ValueError, "the metric 'f1_score', which makes its variables at its"),
]


@pytest.mark.parametrize(("objects", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_what_cannot_be_saved_is_refused(objects, error, message, tmp_path):
    checkpoint = loops.Checkpoint(tmp_path / "new")
    with pytest.raises(error, match=message):
        checkpoint.save(objects)
    assert not (tmp_path / "new").exists()


def test_within_a_tensorflow_function_there_are_no_values(tmp_path):
    checkpoint, objects = loops.Checkpoint(tmp_path / "new"), {"a": tf.Variable(1)}

    @tf.function
    def call(method):
        method(objects)

    for method in (checkpoint.save, checkpoint.restore):
        with pytest.raises(
            ValueError, match="`step` is .* within a `tf.function`, .*: do it between two calls"
        ):
            call(method)
    assert not (tmp_path / "new").exists()


def test_own_states_that_cannot_be_saved_are_refused(tmp_path):
    checkpoint = loops.Checkpoint(tmp_path / "new")
    counter, notes = Counter(1), Notes({1, 2})
    counter.state = lambda: [1]
    with pytest.raises(
        TypeError, match=r"`step` has under 'a' a Counter whose `state\(\)` returns \[1\]: ret"
    ):
        checkpoint.save({"a": counter})
    with pytest.raises(
        TypeError, match=r"`step` has under 'a' a Notes whose `state\(\)` returns .* JSON cannot"
    ):
        checkpoint.save({"a": notes})
    loop = []
    loop.append(loop)
    with pytest.raises(TypeError, match="`step` has under 'a' a list or dict that holds itself"):
        checkpoint.save({"a": loop})
    assert not (tmp_path / "new").exists()


def test_several_iterators_are_refused(tiny, tmp_path):
    iterators = {"one": iter(tiny.data()), "other": iter(tiny.data())}
    with pytest.raises(ValueError, match="`iterator` is .*: pass `iter"):
        loops.Checkpoint(tmp_path).save({"a": 1}, iterators)


OTHERS = [
    (
        lambda: {"b": 1, "c": 2},
        lambda: {"a": 1, "b": 1},
        "names than .*: it has no a; it has c, which the dict",
    ),
    (
        lambda: {"a": 1},
        lambda: {"a": dense()},
        "'a' a Keras model or layer, and the checkpoint .* a value: make",
    ),
    (
        lambda: {"a": tf.Variable(1)},
        lambda: {"a": 1},
        "'a' a value, and the checkpoint .* a variable: make it as",
    ),
    (
        lambda: {"a": dense(3)},
        lambda: {"a": dense(2)},
        r"a/head/bias is float32 \(3,\) there and float32 \(2,\)",
    ),
    (
        lambda: {"a": tf.Variable(1)},
        lambda: {"a": tf.Variable(1.0)},
        r"a is int32 \(\) there and float32 \(\) h",
    ),
    (
        lambda: {"a": loops.Update(K.SGD(), [keras.Variable(1.0)])},
        lambda: {"a": Notes("b")},
        "'a' an object with `set_state`, and the checkpoint .* an Update: make it as it was",
    ),
    (
        lambda: {"a": keras.metrics.Precision()},
        lambda: {"a": keras.metrics.Recall()},
        "'a' a Keras metric with class 'Recall', and the checkpoint .* was made with 'Precision'",
    ),
    (
        lambda: with_update(K.Adam()),
        lambda: with_update(K.AdamW()),
        "'update' an Update with optimizer 'AdamW', and the checkpoint .* was made with 'Adam': make it",
    ),
    (
        lambda: with_update(K.LossScaleOptimizer(K.SGD())),
        lambda: with_update(K.SGD()),
        "with loss_scale None, and the checkpoint .* was made with 'LossScaleOptimizer'",
    ),
    (
        lambda: with_update(K.SGD(), accumulate=2),
        lambda: with_update(K.SGD(), accumulate=3),
        "with accumulate 3, and the checkpoint .* was made with 2",
    ),
    (
        lambda: with_update(K.SGD(), trains="kernel"),
        lambda: with_update(K.SGD(), trains="bias"),
        "with variables model/head/bias, and the checkpoint .* was made with model/head/kernel",
    ),
    (
        lambda: with_update(K.SGD(momentum=0.9)),
        lambda: with_update(K.SGD()),
        "it has update/optimizer/model/head/bias/momentum, update/optimizer/model/head/kernel/momentum",
    ),
    (
        lambda: {"a": tf.random.Generator.from_seed(1, "philox")},
        lambda: {"a": tf.random.Generator.from_seed(1, "threefry")},
        "with algorithm 2, and the checkpoint .* was made with 1",
    ),
]


@pytest.mark.parametrize(("there", "here", "message"), OTHERS, ids=[message for _, _, message in OTHERS])
def test_other_objects_are_refused_and_stay_as_they_were(there, here, message, tmp_path):
    checkpoint, objects = kept_in(tmp_path, **there()), here()
    plain = dict(objects)
    before = SavedObjects(objects).capture()[1]
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(objects)
    assert_same(SavedObjects(objects).capture()[1], before)
    assert objects == plain


def test_other_groups_are_refused(tiny, tmp_path):
    def made(*names):
        model = tiny.model()
        plan = optim.partition(model, {name: name for name in names}, rest="train")
        return {"update": loops.Update(optim.GroupedOptimizer(K.SGD(0.1), plan), model.trainable_variables)}

    checkpoint = kept_in(tmp_path, **made("body"))
    message = (
        "'update' an optimizer that has the groups head, rest, and the checkpoint .* made with body, rest"
    )
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(made("head"))


def test_a_dict_is_no_step_and_a_step_no_dict(tiny, kept, tmp_path):
    message = "`step` is a dict of best, and the checkpoint .* is of a `TrainStep`: restore it with a step"
    with pytest.raises(ValueError, match=message):
        loops.Checkpoint(kept).restore({"best": 1})
    step = tiny.step()
    checkpoint = kept_in(tmp_path, best=1, step=step)
    message = "`step` is a `TrainStep`, and the checkpoint .* was made with a dict of best, step: restore"
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(step)
    with pytest.raises(ValueError, match=message):
        loops.train(step, tiny.data(), epochs=1, checkpoint=tmp_path)
