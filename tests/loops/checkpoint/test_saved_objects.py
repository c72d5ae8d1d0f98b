"""Dicts of the objects of a loop of one's own: it goes on as if it had not stopped, or is refused."""

import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.checkpoint.saved_objects import SavedObjects
from tests.values import assert_same, numbers

K = keras.optimizers


class OwnLoop:
    """Two updates of one model, drawing from each kind of random numbers; `seed` makes other weights."""

    def __init__(self, seed):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Dense(4, name="body"), keras.layers.Dropout(0.5)]
        layers += [keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2, name="head")]
        self.model = keras.Sequential([keras.Input((3,)), *layers])
        rate = K.schedules.ExponentialDecay(0.1, 1, 0.9)
        scaled = K.LossScaleOptimizer(K.SGD(rate, momentum=0.9), initial_scale=64.0, dynamic_growth_steps=2)
        body, head = optim.select(self.model, "body"), optim.select(self.model, "norm", "head")
        self.low = loops.Update(scaled, body, accumulate=3)
        self.high = loops.Update(K.Adam(0.1, use_ema=True), head)
        self.seeds, self.noise = keras.random.SeedGenerator(seed), tf.random.Generator.from_seed(seed)
        self.loss = keras.metrics.Mean()
        self.state = {"low": self.low, "high": self.high, "model": self.model, "seeds": self.seeds}
        self.state |= {"noise": self.noise, "loss": self.loss, "best": math.inf, "losses": []}

    def run(self, iterator, steps):
        for x, _ in (next(iterator) for _ in range(steps)):
            noise = keras.random.normal(x.shape, seed=self.seeds) + self.noise.normal(x.shape)
            with tf.GradientTape(persistent=True) as tape:
                loss = tf.reduce_mean(tf.square(self.model(x + noise, training=True)))
                scaled = self.low.scale_loss(loss)
            self.low(tape.gradient(scaled, self.low.variables))
            self.high(tape.gradient(loss, self.high.variables))
            self.loss.update_state(loss)
            self.state["best"] = min(self.state["best"], float(loss))
            self.state["losses"].append(loss.numpy())

    def values(self):
        plain = {"losses": np.array(self.state["losses"]), "best": self.state["best"]}
        return SavedObjects(self.state).values() | plain


def kept_in(path, **objects):
    """The folder of a checkpoint with a dict of objects."""
    loops.Checkpoint(path).save(objects)
    return loops.Checkpoint(path)


@pytest.mark.parametrize("kind", ["data", "dataset"])
def test_a_loop_goes_on_as_one_that_was_not_stopped(tiny, kind, tmp_path):
    source = tiny.data(batch_size=2) if kind == "data" else tiny.dataset()
    cut, checkpoint = OwnLoop(0), loops.Checkpoint(tmp_path)
    iterator = checkpoint.restore(cut.state, source)  # nothing there yet
    cut.run(iterator, 4)  # one update and a third of the next
    checkpoint.save(cut.state, iterator)
    at_the_cut = cut.values()
    cut.run(iterator, 2)
    again = OwnLoop(1)
    source = tiny.data(batch_size=2) if kind == "data" else tiny.dataset()
    iterator = loops.Checkpoint(tmp_path).restore(again.state, source)
    assert_same(again.values(), at_the_cut)
    assert again.state["best"] == min(at_the_cut["losses"])
    again.run(iterator, 2)
    assert_same(again.values(), cut.values())
    assert len(list(iterator)) == 0


def test_names_are_the_same_whatever_was_made_before_and_in_any_order(tmp_path):
    def names(order):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
        update = loops.Update(K.SGD(0.1, momentum=0.9), model.trainable_variables, accumulate=2)
        alone = loops.Update(
            K.SGD(0.1), [keras.layers.Dense(1).build((1, 1)) or keras.Variable(1.0, name="w")]
        )
        objects = {"model": model, "update": update, "first": model.layers[0], "alone": alone}
        place = kept_in(tmp_path, **{key: objects[key] for key in order}).newest
        return {name for name, _ in tf.train.list_variables(f"{place}/state")}

    found = names(["model", "update", "first", "alone"])
    assert found == names(["alone", "update", "first", "model"])
    assert found >= {"first/kernel", "model/dense_1/kernel", "update/optimizer/first/kernel/momentum"}
    assert found >= {"update/accumulated/model/dense_1/bias", "alone/w", "alone/optimizer/iteration"}
    assert "model/dense/kernel" not in found  # which is the first's


@pytest.mark.parametrize(
    "value",
    [0.1, -(2**70), True, None, "text é", math.inf, [1, [None, {"a": 2.5}]], {"b": []}],
    ids=repr,
)
def test_plain_values_come_back(value, tmp_path):
    checkpoint, objects = kept_in(tmp_path, value=value), {"value": 7}
    assert checkpoint.restore(objects) is None
    assert objects["value"] == value and type(objects["value"]) is type(value)


@pytest.mark.parametrize(
    "value",
    [np.float32(0.1), np.int64(3), np.bool_(True), np.zeros((0, 2)), np.array(3), np.array([1j, 2])],
    ids=repr,
)
def test_numpy_values_come_back(value, tmp_path):
    checkpoint, objects = kept_in(tmp_path, value=value), {"value": None}
    checkpoint.restore(objects)
    assert type(objects["value"]) is type(value) and objects["value"].dtype == value.dtype
    np.testing.assert_array_equal(objects["value"], value)


def test_numpy_numbers_within_come_back_as_pythons(tmp_path):
    losses = [np.float32(0.1), np.int64(2)]
    checkpoint, objects = kept_in(tmp_path, losses=losses), {"losses": None}
    checkpoint.restore(objects)
    assert objects["losses"] == losses and [type(one) for one in objects["losses"]] == [float, int]


class Counter:
    """An object with a state of its own, as variables by name."""

    def __init__(self, value):
        self.count = tf.Variable(value)

    def state(self):
        return {"count": self.count}


class Notes:
    """One whose state is JSON."""

    def __init__(self, text):
        self.text = text

    def state(self):
        return {"text": self.text}

    def set_state(self, state):
        self.text = state["text"]


def test_objects_of_ones_own_come_back(tmp_path):
    checkpoint = kept_in(tmp_path, counter=Counter(3), notes=Notes("a"))
    counter, notes = Counter(0), Notes("b")
    checkpoint.restore({"counter": counter, "notes": notes})
    assert int(counter.count) == 3 and notes.text == "a"


def test_steps_and_what_they_share_come_back(tiny, tmp_path):
    """One that trained other variables; its model is in the dict, too."""

    def made():
        step = tiny.step(accumulate=2)
        return {"a_model": step.model, "step": step, "best": 0.0}

    objects = made()
    loops.Checkpoint(tmp_path).restore(objects)
    objects["step"].train_only("head")
    objects["step"](tiny.x, tiny.y)
    objects["best"] = 0.5
    kept, again = kept_in(tmp_path, **objects), made()
    kept.restore(again)
    assert_same(numbers(again["step"].state()), numbers(objects["step"].state()))
    assert again["best"] == 0.5 and again["step"].variables == again["a_model"].layers[1].trainable_variables


def test_a_normalization_goes_by_what_was_restored(tmp_path):
    kept = keras.layers.Normalization()
    kept.adapt(np.array([[1.0], [3.0]]))
    layer = keras.layers.Normalization()
    layer.build((None, 1))
    kept_in(tmp_path, layer=kept).restore({"layer": layer})
    np.testing.assert_allclose(layer(np.array([[4.0]])), [[2.0]])  # (4 - 2) / 1


def test_groups_come_back_as_they_were_set(tiny, tmp_path):
    def made():
        model = tiny.model()
        plan = optim.partition(model, {"body": optim.Group("body", lr_scale=0.5), "head": "head"})
        return {"model": model, "optimizer": optim.GroupedOptimizer(K.Adam(0.1), plan)}

    objects, again = made(), made()
    loops.Checkpoint(tmp_path).restore(objects)
    objects["optimizer"].freeze("body")
    objects["optimizer"].learning_rate = 0.25
    kept_in(tmp_path, **objects).restore(again)
    assert again["optimizer"].plan.groups["body"].frozen
    assert again["optimizer"].learning_rates == {"body": 0.125, "head": 0.25}


def test_an_optimizer_is_built_over_what_it_was_built_over(tiny, tmp_path):
    def made():
        model = tiny.model()
        return {"model": model, "optimizer": K.SGD(0.1, momentum=0.9)}

    objects, again = made(), made()
    with pytest.raises(
        ValueError, match="`step` has under 'optimizer' an optimizer that knows no variables y"
    ):
        loops.Checkpoint(tmp_path).save(objects)
    objects["optimizer"].build(objects["model"].layers[1].trainable_variables)
    objects["optimizer"].variables[2].assign(np.full((4, 2), 0.5, "float32"))
    checkpoint = kept_in(tmp_path, **objects)
    checkpoint.restore(again)
    assert_same(SavedObjects(again).values(), SavedObjects(objects).values())
    checkpoint = kept_in(tmp_path, optimizer=objects["optimizer"])
    with pytest.raises(ValueError, match="knows no variables yet: call `optimizer.build"):
        checkpoint.restore({"optimizer": K.SGD(0.1, momentum=0.9)})


def test_what_is_not_there_yet_changes_nothing(tmp_path):
    weight, objects = keras.Variable(2.0), {"best": 1}
    objects["weight"] = weight
    assert loops.Checkpoint(tmp_path).restore(objects) is None
    assert objects == {"best": 1, "weight": weight} and float(weight) == 2.0


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
    ({"a": [np.zeros(2)]}, TypeError, "of ndarray in a list, .* give it a key of its own"),
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


def test_own_states_that_cannot_be_saved_are_refused(tmp_path):
    counter, notes = Counter(1), Notes({1, 2})
    counter.state = lambda: [1]
    with pytest.raises(
        TypeError, match=r"`step` has under 'a' a Counter whose `state\(\)` returns \[1\]: ret"
    ):
        loops.Checkpoint(tmp_path).save({"a": counter})
    with pytest.raises(
        TypeError, match=r"`step` has under 'a' a Notes whose `state\(\)` returns .* JSON cannot"
    ):
        loops.Checkpoint(tmp_path).save({"a": notes})
    loop = []
    loop.append(loop)
    with pytest.raises(TypeError, match="`step` has under 'a' a list or dict that holds itself"):
        loops.Checkpoint(tmp_path).save({"a": loop})


def test_several_iterators_are_refused(tiny, tmp_path):
    iterators = {"one": iter(tiny.data()), "other": iter(tiny.data())}
    with pytest.raises(ValueError, match="`iterator` is .*: pass `iter"):
        loops.Checkpoint(tmp_path).save({"a": 1}, iterators)


def dense(units=2, seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, name="head")])


def with_update(optimizer, units=2, trains="*", **options):
    model = dense(units)
    return {"model": model, "update": loops.Update(optimizer, optim.select(model, trains), **options)}


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
        lambda: {"a": keras.metrics.Precision()},
        lambda: {"a": keras.metrics.Recall()},
        "'a' a Keras metric with class 'Recall', and the checkpoint .* was made with 'Precision'",
    ),
    (
        lambda: with_update(K.Adam()),
        lambda: with_update(K.AdamW()),
        "'update' a Update with optimizer 'AdamW', and the checkpoint .* was made with 'Adam': make it",
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
    before = SavedObjects(objects).values()
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(objects)
    assert_same(SavedObjects(objects).values(), before)
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


def test_other_settings_are_told(tmp_path):
    def made(rate=0.1, **options):
        return with_update(K.SGD(rate), **options)

    objects = made()
    loops.Checkpoint(tmp_path).restore(objects)
    objects["update"].optimizer.learning_rate = 0.01  # by the loop, which no user has set
    objects["model"].layers[0].trainable = False
    checkpoint = kept_in(tmp_path, **objects)
    again = made()
    again["model"].layers[0].trainable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint.restore(again)
    assert float(again["update"].optimizer.learning_rate) == np.float32(0.01)
    with pytest.warns(UserWarning) as told:
        checkpoint.restore(made(0.5, clip_norm=1.0))
    (text,) = [str(one.message) for one in told]
    for part in (
        "update/clip_norm is 1 from now on, and was None there",
        "update/learning_rate is 0.01 as there, not 0.5",
        "model/frozen_layers is [] from now on, and was ['head'] there",
    ):
        assert part in text
