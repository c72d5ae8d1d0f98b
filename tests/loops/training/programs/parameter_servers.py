"""Parameter servers learn and lose no update: run by the chief, the workers and the servers."""

import os
import signal
import sys
import time

import tensorflow as tf

resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if resolver.task_type != "chief":
    tf.distribute.Server(
        resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id, protocol="grpc"
    ).join()

import keras  # noqa: E402
import numpy as np  # noqa: E402
from cut import Cut  # type: ignore[import-not-found]  # noqa: E402  # the file beside this one

from gradloop import loops  # noqa: E402

strategy = tf.distribute.ParameterServerStrategy(resolver)
rng = np.random.default_rng(0)
x = rng.standard_normal((512, 8)).astype("float32")
y = (x @ rng.standard_normal((8, 3))).argmax(1)


def make():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)])


class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            print("kill worker 1", flush=True)
            while not os.path.exists(f"{sys.argv[1]}/killed"):
                time.sleep(0.1)


loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
data = loops.Batches(x, y, 8)
alone = make()
expected = loops.train(loops.TrainStep(alone, loss, "adam", metrics=["accuracy"]), data, epochs=8).history
data.epoch = 0
for name, epochs in (("adam", 8), ("lion", 3)):  # by a kernel, and by Keras
    with strategy.scope():
        model = make()
        optimizer = keras.optimizers.get(name)
        step = loops.TrainStep(model, loss, optimizer, metrics=["accuracy"], clip_norm=5.0)
        history = loops.train(step, data, epochs=epochs, validation=loops.Batches(x[:64], y[:64], 8)).history
        assert int(optimizer.iterations.numpy()) == epochs * 64, optimizer.iterations.numpy()
        assert int(step.batches_done.numpy()) == epochs * 64
        assert step.traces == 1
        if name == "adam":
            assert abs(history["loss"][-1] - expected["loss"][-1]) < 0.1, (history["loss"], expected["loss"])
            assert history["loss"][-1] < 0.6 * history["loss"][0]
        assert history["loss"][-1] < history["loss"][0]
        one = step(x[:8], y[:8])
        assert np.isfinite(float(one["loss"]))


# A step that reads how many batches there were: each of them once, whichever worker ran it.
with strategy.scope():
    model = make()

    def counted(model, batch):
        number = tf.cast(counting.batches_done, tf.float32)
        return number + 0.0 * tf.reduce_sum(model(batch[0], training=True))

    counting = loops.TrainStep(model, counted, "sgd")
    numbers = counting.run(iter(data), 64)["loss"]
    assert int(counting.batches_done.numpy()) == 64, counting.batches_done.numpy()
    # A worker may read it while another one counts.
    assert numbers.min() == 0 and 32 <= numbers.max() <= 63, numbers


# What a step records, on whichever worker, is beside its loss.
with strategy.scope():

    def recording(model, batch):
        loops.record("first", batch[0][0, 0])
        loops.record("largest", tf.reduce_max(batch[0]), "max")
        return loops.mean_loss(model(batch[0], training=True))

    step, ordered = loops.TrainStep(make(), recording, "sgd"), loops.Batches(x, y, 8, shuffle=False)
    found = step.run(iter(ordered), 64)
    np.testing.assert_array_equal(found["first"], x[::8, 0])
    np.testing.assert_array_equal(found["largest"], x.reshape(64, -1).max(1))
    assert float(step(x[:8], y[:8])["first"]) == x[0, 0] and float(step(x[8:], y[8:])["first"]) == x[8, 0]


# A model that asks how many examples a batch has, which differs here, and numbers without a seed.
with strategy.scope():

    def asking(model, batch):
        noise = keras.random.normal((batch[0].shape[0], 8))
        return tf.reduce_sum(model(batch[0] + 0.0 * noise, training=True) ** 2) / batch[0].shape[0]

    asked = loops.TrainStep(make(), asking, keras.optimizers.SGD(0.0))
    losses = asked.run(iter(loops.Batches(x[:20], y[:20], 8, shuffle=False)), 3)["loss"]
    values = [np.mean(np.sum(asked.model(x[i : i + 8][: 20 - i]).numpy() ** 2, 1)) for i in (0, 8, 16)]
    np.testing.assert_allclose(losses, values, rtol=1e-5)


# What is left of accumulated gradients when the data ends is one more update.
with strategy.scope():
    sums = loops.TrainStep(make(), loss, "sgd", accumulate=5)
    loops.train(sums, data, epochs=1)
    assert int(sums.optimizer.iterations.numpy()) == 13 and sums.waiting == 0


# A run that is cut goes on: the servers' values are written by the chief, and given back to them.
def kept(*callbacks, folder="/cut"):
    with strategy.scope():
        step = loops.TrainStep(make(), loss, keras.optimizers.Adam(), metrics=["accuracy"])
        checkpoint = loops.Checkpoint(sys.argv[1] + folder, every_steps=5, verbose=0)
        history = loops.train(step, data, epochs=2, callbacks=callbacks, checkpoint=checkpoint)
    return step, history.history


data.epoch = 0
try:
    kept(Cut())
except OSError:
    pass
resumed, history = kept()
assert len(history["loss"]) == 2 and history["loss"][-1] < history["loss"][0]
assert int(resumed.batches_done.numpy()) == int(resumed.optimizer.iterations.numpy()) == 2 * 64
again, same = kept()
assert same == history
for name, value in resumed.state().items():
    np.testing.assert_array_equal(again.state()[name].numpy(), value.numpy(), err_msg=name)


# A signal to the chief alone ends all, after the tasks that are running.
class Sends(loops.StepsCallback):
    def on_train_steps_end(self, first, values):
        if first > 70:
            signal.raise_signal(signal.SIGTERM)


data.epoch = 0
try:
    kept(Sends(), folder="/sent")
    raise AssertionError("It was not ended.")
except loops.Preempted as end:
    assert end.step and end.step > 70 and end.checkpoint
resumed, history = kept(folder="/sent")
assert len(history["loss"]) == 2 and int(resumed.batches_done.numpy()) == 2 * 64

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
    history = loops.train(step, data, epochs=3, callbacks=[Kill()]).history
# What a dead worker had begun is made again by another: never fewer updates than batches.
assert int(optimizer.iterations.numpy()) >= 3 * 64
assert history["loss"][-1] < history["loss"][0]
print("done", flush=True)
# TensorFlow waits a long time at exit for the worker that is gone.
os._exit(0)
