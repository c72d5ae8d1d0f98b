"""Every way to write a variable is seen, by methods that are private to Keras and TensorFlow."""

import keras
import pytest
import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from gradloop import loops
from gradloop.loops.support.record_writes import active_writes, record_writes
from gradloop.loops.support.scalars import collect_scalars, record
from gradloop.loops.support.variable_writes import variable_key

pytestmark = pytest.mark.versions


class Writer(keras.layers.Layer):
    """Writes by each way in turn, and draws a random number."""

    def __init__(self):
        super().__init__()
        self.own = [tf.Variable([1.0, 2.0], trainable=False) for _ in range(4)]
        self.average = self.add_weight(shape=(), initializer="ones", trainable=False)
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x):
        assign, add, scatter, item = self.own
        assign.assign([3.0, 4.0])
        add.assign_add([1.0, 1.0])
        scatter.scatter_nd_update([[0]], [5.0])
        item[0].assign(6.0)
        self.average.assign(x[0])
        return x + keras.random.uniform([1], seed=self.seed)


@pytest.mark.parametrize("run", [lambda f: f(), lambda f: tf.function(f)()], ids=["eager", "traced"])
@pytest.mark.parametrize("inner", [lambda f: f(), lambda f: tf.function(f)()], ids=["plain", "nested"])
def test_all_writes_of_layers_are_found_and_put_back(run, inner):
    layer, loose = Writer(), tf.Variable(1.0)
    metric = keras.metrics.Mean()
    written = [*layer.own, layer.average.value, *(v.value for v in metric.variables)]
    before = [variable.numpy().tolist() for variable in written]

    def step():
        with record_writes() as writes:
            assert active_writes() is writes
            inner(lambda: layer(tf.constant([7.0])))
            metric.update_state(7.0)
            loose.assign(9.0)  # by the step itself: perhaps a weight of an optimizer
        assert active_writes() is None
        assert list(writes.first) == [variable_key(variable) for variable in written]
        assert writes.layers == {id(layer): layer}
        writes.undo_unless(tf.constant(False))

    run(step)
    assert [variable.numpy().tolist() for variable in written] == before
    assert float(loose) == 9.0 and layer.seed.state.numpy()[1] == 1


def test_seeds_if_asked_for():
    layer = Writer()

    @tf.function
    def step():
        with record_writes(seeds=True) as writes:
            drawn = layer(tf.constant([7.0]))
        writes.undo_unless(tf.constant(False))
        return drawn

    assert float(step()[0]) == float(step()[0])
    assert layer.seed.state.numpy().tolist() == [0, 0]


def test_in_loops_and_conditions():
    layer = Writer()

    @tf.function
    def step():
        with record_writes() as writes:
            for _ in tf.range(3):
                layer(tf.constant([7.0]))
        writes.undo_unless(tf.constant(False))

    step()
    assert float(layer.average) == 1.0


def test_everything_and_a_recording_within_another():
    loose, methods = tf.Variable(1.0), [ResourceVariable.assign, keras.layers.Layer.__call__]
    with record_writes(everything=True) as writes:
        assert ResourceVariable.assign is not methods[0]
        with record_writes() as inner:
            loose.assign(2.0)
        assert inner is writes and len(writes.first) == 1
    assert [ResourceVariable.assign, keras.layers.Layer.__call__] == methods


@pytest.mark.parametrize("run", [lambda f: f(), lambda f: tf.function(f)()], ids=["eager", "traced"])
def test_what_a_gradient_calls_again_records_nothing(run):
    """`tf.recompute_grad` drops what the forward pass made, and calls the function again for its gradient."""
    calls = []

    def square(x):
        calls.append(x)
        record("square", x * x, "sum")
        return x * x

    def step():
        x = tf.constant(3.0)
        with record_writes(), collect_scalars((), {}) as recorded:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.recompute_grad(square)(x)
            gradient = tape.gradient(y, x)
        return [gradient, *recorded.values]

    assert [float(value) for value in run(step)] == [6.0, 9.0] and len(calls) == 2


@tf.custom_gradient
def twice(x):
    def gradient(upstream):
        record("upstream", upstream)
        return 2.0 * upstream

    return 2.0 * x, gradient


def test_what_a_gradient_alone_records():
    """A step of one's own has it, and a `TrainStep` refuses it."""

    @loops.replicated
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = 3.0 * twice(x)
        return {"gradient": tape.gradient(y, x)}

    assert {name: float(value) for name, value in step(1.0 * tf.ones([])).items()} == {
        "gradient": 6.0,
        "upstream": 3.0,
    }
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    step = loops.TrainStep(model, lambda model, batch: loops.mean_loss(twice(model(batch[0]))), "sgd")
    with pytest.raises(
        ValueError, match="the name 'upstream' while a gradient was computed, .*: record it there"
    ):
        step(tf.ones([1, 1]))
