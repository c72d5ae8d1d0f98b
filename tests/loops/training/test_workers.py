"""Several processes: two workers give one device's numbers; parameter servers learn and lose no update."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

CUT = """
class Cut(loops.StepsCallback):
    def steps_allowed(self, done):
        return 7 - done if done < 7 else None

    def on_train_steps_end(self, first, values):
        if first - 1 + len(values["loss"]) == 7:
            raise OSError("power cut")
"""

WORKER = (
    """
import shutil
import sys

import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
from gradloop import loops, models, optim

# In float64 the rounding of sums in another order stays out of sight, on any processor.
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
rng = np.random.default_rng(0)
x = rng.random((50, 28, 28, 1), dtype=np.float32)
y = rng.integers(0, 10, 50)
weight = rng.random(50).astype("float32")
digits = "sparse_categorical_crossentropy"


def compare(name, make, options=None, batch=16, weights=None, epochs=4, layers=None):
    found = []
    for where in (None, strategy):
        keras.utils.set_random_seed(1)
        with where.scope() if where else tf.name_scope(""):
            model = models.LeNet5(**(layers or {}))
            step = loops.TrainStep(model, digits, make(model), metrics=["accuracy"], **(options or {}))
        data = loops.Batches(x, y, batch, sample_weight=weights)
        history = loops.train(step, data, epochs=epochs, validation=loops.Batches(x, y, 33)).history
        assert step.traces == 1, step.traces
        found.append((history, [v.numpy() for v in model.trainable_variables]))
    (history, weights), (other, others) = found
    for key, values in history.items():
        np.testing.assert_allclose(other[key], values, rtol=5e-6, err_msg=f"{name}: {key}")
    for a, b in zip(weights, others):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-6 * abs(a).max(), err_msg=name)


K = keras.optimizers
SGD = lambda model: K.SGD(0.05)
compare("accumulate", lambda m: K.SGD(0.05, momentum=0.9), {"accumulate": 3})
compare("clip, L1 and L2", SGD, {"clip_norm": 0.1}, layers={"l1": 1e-4, "l2": 1e-3})
groups = {"conv": optim.Group("conv", lr_scale=0.1), "rest": optim.Group("fc", frozen=False)}
if sys.argv[2] == "all":
    compare("plain", SGD)
    compare("last batch of one", SGD, batch=49, weights=weight)
    compare("EMA", lambda m: K.SGD(0.05, use_ema=True, ema_momentum=0.9))
    compare("groups", lambda m: optim.GroupedOptimizer(K.SGD(0.05), optim.partition(m, groups)))
    compare("clipnorm", lambda m: K.SGD(0.05, clipnorm=0.1))

"""
    + CUT
    + """

# A run that is cut goes on: one worker writes, both read.
def kept(folder, *callbacks):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = models.LeNet5(batch_norm=True)
        entropy = keras.metrics.SparseCategoricalCrossentropy(name="entropy")
        step = loops.TrainStep(model, digits, K.SGD(0.05, momentum=0.9), metrics=[entropy], accumulate=2)
    checkpoint = loops.Checkpoint(folder, every_steps=3, every_minutes=60.0)
    data = loops.Batches(x, y, 16)
    history = loops.train(step, data, epochs=3, callbacks=callbacks, checkpoint=checkpoint).history
    return history, {name: variable.numpy() for name, variable in step.state().items()}


straight = kept(sys.argv[1] + "/straight")
try:
    kept(sys.argv[1] + "/cut", Cut())
except OSError:
    pass
resumed = kept(sys.argv[1] + "/cut")
assert resumed[0] == straight[0], (resumed[0], straight[0])
for name, value in straight[1].items():
    np.testing.assert_array_equal(resumed[1][name], value, err_msg=name)
# An overflow on the second worker alone: nobody moves, the scale halves, the next step goes on.
keras.config.set_floatx("float32")
keras.config.set_dtype_policy("mixed_float16")
with strategy.scope():
    model = models.LeNet5()
    step = loops.TrainStep(model, digits, K.SGD(0.05))
keras.config.set_dtype_policy("float32")
bad = x[:16].copy()
bad[15] = 1e30  # the last example of a batch is the last replica's
step.run(iter(loops.Batches(x[:16], y[:16], 16)), 1)
before = [v.numpy() for v in model.trainable_variables]
scale = float(step.optimizer.dynamic_scale.numpy())
step.run(iter(loops.Batches(bad, y[:16], 16, shuffle=False)), 1)
assert float(step.optimizer.dynamic_scale.numpy()) == scale / 2
assert int(step.optimizer.inner_optimizer.iterations.numpy()) == 1
for a, b in zip(before, model.trainable_variables):
    np.testing.assert_array_equal(a, b.numpy())
step.run(iter(loops.Batches(x[:16], y[:16], 16)), 1)
assert int(step.optimizer.inner_optimizer.iterations.numpy()) == 2

# Doors.
def refuses(call, part):
    try:
        call()
    except ValueError as error:
        assert part in str(error), error
    else:
        raise AssertionError(part)


refuses(lambda: step(x[:16], y[:16]), "called with arrays on several workers, each of which")
unordered = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
options = tf.data.Options()
options.deterministic = False
refuses(lambda: loops.train(step, unordered.with_options(options), epochs=1), "`data` cannot be sharded")
own = f"{sys.argv[1]}/of {strategy.cluster_resolver.task_id}"  # a folder that the other does not see
if own.endswith("0"):
    shutil.copytree(sys.argv[1] + "/cut", own)
refuses(lambda: kept(own), "does not hold the same checkpoints for each worker")
with strategy.scope():
    plain = loops.replicated(lambda x: x)
refuses(lambda: plain(x), "called with plain arrays on several workers")
history = loops.train(step, unordered, epochs=1).history
assert np.isfinite(history["loss"][0])
print("done")
"""
)

SERVED = (
    """
import os
import sys

import tensorflow as tf

resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if resolver.task_type != "chief":
    tf.distribute.Server(
        resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id, protocol="grpc"
    ).join()

import keras
import numpy as np

from gradloop import loops

strategy = tf.distribute.ParameterServerStrategy(resolver)
rng = np.random.default_rng(0)
x = rng.standard_normal((512, 8)).astype("float32")
y = (x @ rng.standard_normal((8, 3))).argmax(1)


def make():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)])


class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            print("kill worker 1", flush=True)
            sys.stdin.readline()


loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
data = loops.Batches(x, y, 8)
alone = make()
expected = loops.train(loops.TrainStep(alone, loss, "adam", metrics=["accuracy"]), data, epochs=8).history
data.epoch = 0
for name in ("adam", "lion"):  # by a kernel, and by Keras
    with strategy.scope():
        model = make()
        optimizer = keras.optimizers.get(name)
        step = loops.TrainStep(model, loss, optimizer, metrics=["accuracy"], clip_norm=5.0)
        history = loops.train(step, data, epochs=8, validation=data).history
        assert int(optimizer.iterations.numpy()) == 8 * 64, optimizer.iterations.numpy()
        assert int(step.batches_done.numpy()) == 8 * 64
        assert step.traces == 1
        if name == "adam":
            assert abs(history["loss"][-1] - expected["loss"][-1]) < 0.1, (history["loss"], expected["loss"])
        assert history["loss"][-1] < 0.6 * history["loss"][0]
        one = step(x[:8], y[:8])
        assert np.isfinite(float(one["loss"]))

"""
    + CUT
    + """

# A run that is cut goes on: the servers' values are written by the chief, and given back to them.
def kept(*callbacks):
    with strategy.scope():
        step = loops.TrainStep(make(), loss, keras.optimizers.Adam(), metrics=["accuracy"])
        checkpoint = loops.Checkpoint(sys.argv[1], every_steps=5, verbose=0)
        history = loops.train(step, data, epochs=4, callbacks=callbacks, checkpoint=checkpoint)
    return step, history.history


data.epoch = 0
try:
    kept(Cut())
except OSError:
    pass
resumed, history = kept()
assert len(history["loss"]) == 4 and history["loss"][-1] < history["loss"][0]
assert int(resumed.batches_done.numpy()) == int(resumed.optimizer.iterations.numpy()) == 4 * 64
again, same = kept()
assert same == history
for name, value in resumed.state().items():
    np.testing.assert_array_equal(again.state()[name].numpy(), value.numpy(), err_msg=name)

whole = tf.data.Dataset.from_tensors((x, y))
for call, part in (
    (lambda: loops.TrainStep(model, loss, "adam"), "on a parameter server, and this was called outside"),
    (lambda: loops.train(step, whole, epochs=1), "only a `loops.Batches` allows"),
):
    try:
        call()
    except ValueError as error:
        assert part in str(error), error
    else:
        raise AssertionError(part)

with strategy.scope():
    model = make()
    optimizer = keras.optimizers.Adam()
    step = loops.TrainStep(model, loss, optimizer)
    history = loops.train(step, data, epochs=8, callbacks=[Kill()]).history
# What a dead worker had begun is made again by another: never fewer updates than batches.
assert int(optimizer.iterations.numpy()) >= 8 * 64
assert history["loss"][-1] < 0.6 * history["loss"][0]
print("done", flush=True)
# TensorFlow waits a long time at exit for the worker that is gone.
os._exit(0)
"""
)


def ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


@contextlib.contextmanager
def tasks(program, cluster, *arguments):
    """Starts one process for each task of a cluster: (type, index) -> process."""
    started = {}
    try:
        for kind, addresses in cluster.items():
            for index in range(len(addresses)):
                config = {"cluster": cluster, "task": {"type": kind, "index": index}}
                started[kind, index] = subprocess.Popen(
                    [sys.executable, "-c", program, *map(str, arguments)],
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.communicate()


@pytest.mark.numbers
@pytest.mark.parametrize("which", ["two", pytest.param("all", marks=pytest.mark.release)])
def test_two_workers_are_one_device(which, tmp_path):
    with tasks(WORKER, {"worker": ports(2)}, tmp_path, which) as started:
        ends = [process.communicate(timeout=400) for process in started.values()]
    for process, (out, err) in zip(started.values(), ends):
        assert process.returncode == 0, err[-3000:]
        assert out.endswith("done\n")
    goes_on = [re.findall("Training goes on at epoch 2 after 2 of its batches", out) for out, _ in ends]
    assert list(map(len, goes_on)) == [1, 0], "one worker tells"


@pytest.mark.release
def test_parameter_servers(tmp_path):
    cluster = {"chief": ports(1), "ps": ports(1), "worker": ports(2)}
    with tasks(SERVED, cluster, tmp_path) as started:
        chief = started["chief", 0]
        line = chief.stdout.readline()
        if line == "kill worker 1\n":
            started["worker", 1].send_signal(signal.SIGKILL)
            time.sleep(0.1)
        out, err = chief.communicate("killed\n", timeout=400)
    assert chief.returncode == 0, err[-3000:]
    assert (line, out) == ("kill worker 1\n", "done\n")
