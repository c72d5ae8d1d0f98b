"""Two replicas give what one device gives; logical devices must be made before TensorFlow starts."""

import sys

import keras
import numpy as np
import tensorflow as tf

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from gradloop import loops  # noqa: E402
from gradloop.optim import Group, GroupedOptimizer, partition  # noqa: E402

# Adam magnifies the rounding of sums in another order: in float64 it stays out of sight on any processor.
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
K = keras.optimizers
one = tf.distribute.get_strategy()
two = tf.distribute.MirroredStrategy(
    ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
)
x = np.random.RandomState(0).randint(0, 6, (16, 2))
y = np.random.RandomState(1).standard_normal((16, 3)).astype("float32")


def fit(strategy, make, phases=(None, "head")):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((2,), dtype="int32"),
                keras.layers.Embedding(6, 3, name="table"),
                keras.layers.Flatten(),
                keras.layers.Dense(3, name="head"),
            ]
        )
        groups = {"table": Group("table", lr_scale=0.5), "head": "head"}
        optimizer = GroupedOptimizer(make(), partition(model, groups))
        model.compile(optimizer, "mse")
    for frozen in phases:
        if frozen:
            optimizer.freeze(frozen)
            before = model.get_layer(frozen).kernel.numpy()
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        if frozen:
            np.testing.assert_array_equal(model.get_layer(frozen).kernel.numpy(), before)
            optimizer.unfreeze(frozen)
    state = {name: v.numpy() for name, v in optimizer.grouped_update.state.items()}
    weights = {v.path.split("/", 1)[1]: v.numpy() for v in model.trainable_variables}
    counts = optimizer.grouped_update.counts.by_name()
    return {**state, **weights, "iterations": optimizer.iterations.numpy()}, counts


def assert_same(found, expected):
    assert found[1] == expected[1]
    for name, value in expected[0].items():
        np.testing.assert_allclose(found[0][name], value, rtol=0, atol=1e-9, err_msg=name)


OPTIMIZERS = {
    "adam": lambda: K.Adam(0.05, use_ema=True, ema_overwrite_frequency=3, global_clipnorm=0.1),
    "momentum": lambda: K.SGD(0.05, momentum=0.9, weight_decay=0.1),
    # by Keras' own step
    "lion": lambda: K.Lion(0.05, weight_decay=0.1),
    "nadam": lambda: K.Nadam(0.05),
}
for name in sys.argv[1:]:
    if name in OPTIMIZERS:
        assert_same(fit(two, OPTIMIZERS[name]), fit(one, OPTIMIZERS[name]))
if "rest" not in sys.argv:
    print("done")
    sys.exit()

# Outside of a replica, where gradients are those of the whole batch.
for make in (lambda: K.SGD(0.5), lambda: K.Ftrl(0.5)):
    found = []
    for strategy in (one, two):
        with strategy.scope():
            layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
            layer.build((None, 2))
            optimizer = GroupedOptimizer(make(), partition(layer, {"all": "*"}))
            tf.function(optimizer.apply)([tf.ones(v.shape) for v in layer.trainable_variables])
        found.append([v.numpy() for v in layer.trainable_variables])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-9)

# What a float8 layer calls the gradient of a scale is its new value: of those on both replicas the largest.
for make in (lambda: K.SGD(0.5), lambda: K.Lion(0.5)):
    for grouped, accumulate in ((False, 1), (True, 1), (True, None), (False, 2)):
        with two.scope():
            layer = keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")
            layer.build((None, 1))
            layer.bias.overwrite_with_gradient = True
            variables = layer.trainable_variables
            optimizer = GroupedOptimizer(make(), partition(layer, {"all": "*"})) if grouped else make()
            update = optimizer.apply
            if accumulate is not None:
                update = loops.Update(optimizer, variables, accumulate=accumulate)

        @tf.function
        def call(update=update):
            replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "float64")
            update([tf.fill([1, 2], 0.5), tf.stack([-3 - replica, 2 + replica])])

        for _ in range(accumulate or 1):
            two.run(call)
        np.testing.assert_allclose(layer.kernel.numpy(), [[0.5, 0.5]])
        for copy in two.experimental_local_results(layer.bias.value):
            np.testing.assert_array_equal(copy.numpy(), [-3, 3])

# State that copies the weights does so on each replica, when the first update comes.
if hasattr(K, "ScheduleFreeAdamW"):  # not in every Keras
    ends = []
    for strategy in (one, two):
        with strategy.scope():
            layer = keras.layers.Dense(2, kernel_initializer="ones", use_bias=False)
            layer.build((None, 1))
            update = loops.Update(K.ScheduleFreeAdamW(0.1), layer.trainable_variables)
        layer.set_weights([np.full((1, 2), 5.0)])
        call = tf.function(lambda update=update: update([tf.ones((1, 2))]), autograph=False)
        for _ in range(2):
            strategy.run(call)
        ends.append(layer.kernel.numpy())
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9)
layer = keras.layers.Dense(2)

# Optimizers inside of another one sum what is summed already no more than it does.
if hasattr(K, "MultiOptimizer"):
    with two.scope():
        layer.build((None, 1))
        variables = layer.trainable_variables
        inner = {"kernel": K.SGD(0.1), "bias": K.SGD(1.0)}
        update = loops.Update(K.MultiOptimizer(lambda variable: inner[variable.name]), variables)
    layer.set_weights([np.ones((1, 2)), np.ones(2)])
    two.run(tf.function(lambda: update([tf.ones((1, 2)), tf.ones(2)])))
    np.testing.assert_allclose(layer.kernel.numpy(), [[0.8, 0.8]])
    np.testing.assert_allclose(layer.bias.numpy(), [-1, -1])

try:
    fit(two, lambda: K.SGD(0.1, gradient_accumulation_steps=2))
except ValueError as error:
    assert "`gradient_accumulation_steps=2` does not work on 2 replicas: accumulate outside" in str(error)
else:
    raise AssertionError("accumulation on two replicas")
print("done")
