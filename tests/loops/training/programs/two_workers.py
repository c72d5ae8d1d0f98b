"""Two workers give one device's numbers: run by each of them."""

import shutil
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before anything that makes a tensor

from cut import Cut  # type: ignore[import-not-found]  # noqa: E402  # the file beside this one

from gradloop import loops, optim  # noqa: E402
from tests.programs import leave_together  # noqa: E402

# In float64 the rounding of sums in another order stays out of sight, on any processor.
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
rng = np.random.default_rng(0)
x = rng.random((50, 12), dtype=np.float32)
y = rng.integers(0, 10, 50)
weight = rng.random(50).astype("float32")
digits = "sparse_categorical_crossentropy"


def network(batch_norm=False, regularizer=None):
    return keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(8, "tanh", kernel_regularizer=regularizer, name="first"),
            *([keras.layers.BatchNormalization()] if batch_norm else []),
            keras.layers.Dense(10, "softmax", name="last"),
        ]
    )


class Seen(loops.StepsCallback):
    """Keeps what was measured."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def watch(self):
        return loops.Watch(every=3, activations="*")

    def on_measured(self, number, measured):
        self.seen[number] = measured.scalars


def compare(name, make, options=None, batch=16, weights=None, epochs=4, layers=None):
    found, watched = [], []
    for where in (None, strategy):
        keras.utils.set_random_seed(1)
        with where.scope() if where else tf.name_scope(""):
            model = network(**(layers or {}))
            step = loops.TrainStep(model, digits, make(model), metrics=["accuracy"], **(options or {}))
        data = loops.Batches(x, y, batch, sample_weight=weights)
        seen = Seen()
        validation = loops.Batches(x, y, 33)
        history = loops.train(step, data, epochs=epochs, validation=validation, callbacks=[seen]).history
        assert step.traces == 2, step.traces
        watched.append(seen.seen)
        found.append((history, [v.numpy() for v in model.trainable_variables]))
    (history, weights), (other, others) = found
    one, two = watched
    assert len(one) > 1 and list(one) == list(two)
    for number, scalars in one.items():
        assert set(scalars) == set(two[number])
        for tag, value in scalars.items():
            np.testing.assert_allclose(two[number][tag], value, 5e-6, 1e-9, err_msg=f"{name}: {number} {tag}")
    for key, values in history.items():
        np.testing.assert_allclose(other[key], values, rtol=5e-6, err_msg=f"{name}: {key}")
    for a, b in zip(weights, others):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-6 * abs(a).max(), err_msg=name)


K = keras.optimizers


def SGD(model):
    return K.SGD(0.05)


groups = {"first": optim.Group("first", lr_scale=0.1), "rest": optim.Group("last", frozen=False)}
if sys.argv[2] == "others":
    compare("plain", SGD)
    compare("last batch of one", SGD, batch=49, weights=weight)
    compare("EMA", lambda m: K.SGD(0.05, use_ema=True, ema_momentum=0.9))
    compare("groups", lambda m: optim.GroupedOptimizer(K.SGD(0.05), optim.partition(m, groups)))
    compare("clipnorm", lambda m: K.SGD(0.05, clipnorm=0.1))
    print("done")
    leave_together(Path(sys.argv[1]), strategy.cluster_resolver.task_id, 2)

compare("accumulate", lambda m: K.SGD(0.05, momentum=0.9), {"accumulate": 3})
both = {"regularizer": keras.regularizers.L1L2(1e-4, 1e-3)}
compare("clip, L1 and L2", SGD, {"clip_norm": 0.1}, layers=both)


# A run that is cut goes on: one worker writes, both read.
def kept(folder, *callbacks, verbose=1):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network(batch_norm=True)
        entropy = keras.metrics.SparseCategoricalCrossentropy(name="entropy")
        step = loops.TrainStep(model, digits, K.SGD(0.05, momentum=0.9), metrics=[entropy], accumulate=2)
    checkpoint = loops.Checkpoint(folder, every_steps=3, every_minutes=60.0, verbose=verbose)
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


# A signal that only the second worker is sent ends both at one step, and both save.
class Sends(loops.StepsCallback):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def on_train_steps_end(self, first, values):
        if first - 1 + len(values["loss"]) >= 5 and strategy.cluster_resolver.task_id == 1 and self.number:
            signal.raise_signal(self.number)
            self.number = None


if sys.argv[2] == "all":
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        folder = f"{sys.argv[1]}/{number.name}"
        try:
            kept(folder, Sends(number))
            assert number == signal.SIGINT
        except loops.Preempted as end:
            assert end.signal == number and 5 <= (end.step or 0) <= 12 and end.checkpoint
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        resumed = kept(folder, verbose=0)
        assert resumed[0] == straight[0], (resumed[0], straight[0])
        for name, value in straight[1].items():
            np.testing.assert_array_equal(resumed[1][name], value, err_msg=name)
    with loops.graceful_exit(strategy=strategy) as wanted:
        for turn in range(4):
            if turn == 2 and strategy.cluster_resolver.task_id == 1:
                signal.raise_signal(signal.SIGTERM)
            if wanted():
                break
    assert turn == 2, turn
# An overflow on the second worker alone: nobody moves, the scale halves, the next step goes on.
keras.config.set_floatx("float32")
keras.config.set_dtype_policy("mixed_float16")
with strategy.scope():
    model = network()
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


# A loop of one's own goes on, too, of which each worker has counted something else.
def own_objects(rate, best):
    with strategy.scope():
        model, whole = network(), keras.metrics.Sum(dtype="int64")
        update = loops.Update(K.SGD(rate, momentum=0.9), model.trainable_variables)
    return {"update": update, "model": model, "whole": whole, "best": best}


def count(metric):
    metric.update_state(1 + tf.distribute.get_replica_context().replica_id_in_sync_group)


objects, again = own_objects(0.05, 0.5), own_objects(0.05, None)
tf.function(strategy.run)(count, args=(objects["whole"],))
path = loops.Checkpoint(sys.argv[1] + "/own").save(objects)
assert (path is not None) == loops.is_chief()
loops.Checkpoint(sys.argv[1] + "/own").restore(again)
assert int(again["whole"].result()) == 3 and again["best"] == 0.5
for a, b in zip(objects["model"].weights, again["model"].weights, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())


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
refuses(lambda: loops.train(step, unordered.with_options(options), epochs=1), "the option `deterministic")
keras.utils.set_random_seed(7 + strategy.cluster_resolver.task_id)  # as a program without any does
refuses(lambda: loops.train(step, unordered.shuffle(50), epochs=1), "`data` is shuffled by other seeds")
tf.random.set_seed(None)
refuses(
    lambda: step.run(iter(unordered.shuffle(50)), 1), "`iterator` is a dataset in no fixed order, with a `sh"
)
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
leave_together(Path(sys.argv[1]), strategy.cluster_resolver.task_id, 2)
