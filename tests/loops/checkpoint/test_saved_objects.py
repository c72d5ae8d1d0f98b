"""Dicts of the objects of a loop of one's own: it goes on as if it had not stopped."""

import math
import re
import shutil
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.checkpoint.saved_objects import SavedObjects
from tests.loops.checkpoint.own_objects import Counter, Notes, dense, kept_in, with_update
from tests.programs import Program
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
        return SavedObjects(self.state).capture()[1] | plain


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
    [
        *(np.float32(0.1), np.int64(3), np.bool_(True), np.zeros((0, 2)), np.array(3), np.array([1j, 2])),
        np.array(1.5, tf.bfloat16.as_numpy_dtype),
    ],
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
    assert_same(SavedObjects(again).capture()[1], SavedObjects(objects).capture()[1])
    checkpoint = kept_in(tmp_path, optimizer=objects["optimizer"])
    with pytest.raises(ValueError, match="knows no variables yet: call `optimizer.build"):
        checkpoint.restore({"optimizer": K.SGD(0.1, momentum=0.9)})


def test_an_optimizer_over_variables_of_tensorflow(tmp_path):
    def made(value):
        weights = [tf.Variable([value, 2.0]), tf.Variable([3.0, value])]  # both are called `Variable:0`
        return {"one": weights[0], "other": weights[1], "optimizer": K.Adam(0.1)}

    def moved(objects):
        weights = [objects["one"], objects["other"]]
        objects["optimizer"].apply([tf.constant([0.5, -1.0]), tf.constant([2.0, 0.25])], weights)
        return SavedObjects(objects).capture()[1]

    objects, again = made(1.0), made(7.0)
    moved(objects)
    kept_in(tmp_path, **objects).restore(again)
    assert_same(moved(again), moved(objects))
    alone = kept_in(tmp_path, optimizer=objects["optimizer"]).newest
    names = {name for name, _ in tf.train.list_variables(f"{alone}/state")}
    assert names >= {f"optimizer/optimizer/Variable/{slot}" for slot in ("momentum", "momentum_1")}


def test_what_is_not_there_yet_changes_nothing(tmp_path):
    weight, objects = keras.Variable(2.0), {"best": 1}
    objects["weight"] = weight
    assert loops.Checkpoint(tmp_path).restore(objects) is None
    assert objects == {"best": 1, "weight": weight} and float(weight) == 2.0


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


def test_replicas_go_on_as_if_they_had_not_stopped(tmp_path):
    program = Path(__file__).parent / "programs" / "own_loop_on_replicas.py"
    assert Program(program, tmp_path / "kept", folder=tmp_path).finish() == "the same\n"


def test_the_example_of_the_guide(tmp_path, monkeypatch):
    """It runs as it stands there; stopped in its second epoch, it draws and counts on from there."""
    text = (Path(__file__).parents[3] / "docs" / "own_loops.md").read_text()
    section = text.partition("\n## Stopping and resuming\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    drawn = []

    def run(stop_at):
        def step(images, noise):
            if len(drawn) == stop_at:
                raise KeyboardInterrupt
            drawn.append(noise.numpy())

        gan, data = dense(), loops.Batches(np.zeros((4, 1)), None, 2)
        updates = {f"update_{name}": loops.Update(K.SGD(), gan.weights) for name in ("critic", "generator")}
        given = {
            "loops": loops,
            "keras": keras,
            "gan": gan,
            "data": data,
            "epochs": 3,
            "step": step,
            **updates,
        }
        exec(code.replace("500", "3"), {**given, "seeds": keras.random.SeedGenerator(1)})

    run(6)
    whole, drawn[:] = list(drawn), []
    shutil.rmtree("runs")
    with pytest.raises(KeyboardInterrupt):
        run(3)  # two epochs of two batches would be 4
    run(6)
    np.testing.assert_array_equal(drawn, whole)
