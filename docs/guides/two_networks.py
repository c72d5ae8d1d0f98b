# %% [markdown]
# # Two networks, two optimizers, one step
#
# After this page you can train several networks in one step, each by its own optimizer: a GAN, or an actor
# and a critic. You can show which update moves which variables, decide what a NaN in one of them does, and
# save and resume all of it. It helps to know [a loop of your own](own_loop.py).

# %%
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers

from gradloop import loops, optim

keras.utils.set_random_seed(0)

# %% [markdown]
# ## A small GAN
#
# The real examples are points on a ring. A generator makes points from noise. A discriminator tells real
# points from made ones. One model holds both networks, so that every variable has one name.

# %%
rng = np.random.default_rng(0)
angle = rng.uniform(0, 2 * np.pi, 4096)
radius = rng.normal(1.0, 0.05, (4096, 1))
ring = (radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype("float32")
data = loops.Batches(ring, None, batch_size=256)
NOISE = 4


def network(name, inputs, outputs):
    hidden = [layers.Dense(64, "leaky_relu") for _ in range(2)]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(outputs)], name=name)


def make_gan():
    keras.utils.set_random_seed(1)
    generator, discriminator = network("generator", NOISE, 2), network("discriminator", 2, 1)
    return keras.Sequential([generator, discriminator]), generator, discriminator


gan, generator, discriminator = make_gan()
print(list(optim.named_variables(gan))[:2], list(optim.named_variables(gan))[-2:])

# %% [markdown]
# ## Two updates
#
# Each {py:class}`gradloop.loops.Update` holds an optimizer and the variables that it may change. The two
# lists have no variable in common, so neither update can change the other network, whatever happens in the
# step.


# %%
def make_updates(gan, on_nonfinite="raise"):
    updates = {}
    for name in ("generator", "discriminator"):
        adam = keras.optimizers.Adam(1e-3, beta_1=0.5)
        variables = optim.select(gan, f"{name}/*")
        updates[name] = loops.Update(adam, variables, on_nonfinite=on_nonfinite)
    return updates


# %% [markdown]
# ## The step
#
# Each network has its own tape. The discriminator learns first, then the generator learns from the new
# discriminator. `tape.gradient` is called for the variables of one network only. The noise is an argument of
# the step: on several devices it is split with the data, so they compute what one device computes.


# %%
def make_step(gan, generator, discriminator, updates):
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")

    @loops.replicated
    def step(real, noise):
        made = generator(noise, training=True)
        with tf.GradientTape() as tape:
            on_real = discriminator(real, training=True)
            on_made = discriminator(made, training=True)
            loss_of_real = cross_entropy(tf.ones_like(on_real), on_real)
            loss_of_made = cross_entropy(tf.zeros_like(on_made), on_made)
            d_loss = loops.mean_loss(loss_of_real + loss_of_made)
        update = updates["discriminator"]
        taken = update(tape.gradient(d_loss, update.variables), d_loss)

        with tf.GradientTape() as tape:
            on_made = gan(noise, training=True)
            g_loss = loops.mean_loss(cross_entropy(tf.ones_like(on_made), on_made))
        update = updates["generator"]
        update(tape.gradient(g_loss, update.variables), g_loss)
        return {"d_loss": d_loss, "g_loss": g_loss, "taken": taken}

    return step


updates = make_updates(gan)
step = make_step(gan, generator, discriminator, updates)


def noise_of(number, examples):
    return tf.random.stateless_normal((examples, NOISE), seed=(0, number))


# %% [markdown]
# ## Which update moves what
#
# We compare all variables before and after. First each update alone, then the step:


# %%
def moved(action, *arguments):
    """The names of the variables that change in a call, and what the call returns."""
    named = optim.named_variables(gan)
    before = {name: variable.numpy() for name, variable in named.items()}
    result = action(*arguments)
    return {name for name in named if (before[name] != named[name].numpy()).any()}, result


def variables_of(network):
    return {name for name in optim.named_variables(gan) if name.startswith(network)}


def update_alone(update):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(gan(noise_of(0, 8)) ** 2)
    return update(tape.gradient(loss, update.variables))


for name, update in updates.items():
    names, _ = moved(update_alone, update)
    print(f"the update of the {name} changes {len(names)} variables")
    assert names == variables_of(name)
names, _ = moved(step, ring[:256], noise_of(1, 256))
assert names == variables_of("generator") | variables_of("discriminator")

# %% [markdown]
# ## Train
#
# The loop is as any other. (If one network is to learn more often than the other, write a replicated function
# for each, and call one of them more often.)

# %%
history = []
for _ in range(30):
    for real in data:
        logs = step(real, noise_of(len(history), len(real)))
        history.append((float(logs["d_loss"]), float(logs["g_loss"])))

made = generator(noise_of(-1, 1000)).numpy()
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(history, label=["discriminator", "generator"])
left.set(xlabel="step", ylabel="loss")
left.legend(frameon=False)
right.plot(*ring[:1000].T, ".", markersize=3, label="real")
right.plot(*made.T, ".", markersize=3, label="made")
right.set_aspect("equal")
right.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3)
distance = np.abs(np.linalg.norm(made, axis=1) - 1)
print(f"median distance from the ring: {np.median(distance):.3f}")
assert np.median(distance) < 0.15

# %% [markdown]
# Both losses end near those of a discriminator that can only guess: 2 ln 2 = 1.39, and ln 2 = 0.69 for the
# generator.

# %% [markdown]
# ## A NaN in one of them
#
# By default, `on_nonfinite="raise"`, a NaN in any update ends the step with an error. With "skip", each
# update decides for itself. In the batch below, one real point is NaN. The update of the discriminator leaves
# this batch out (and what its layers wrote, such as moving statistics, is put back). The generator never sees
# the batch, so it learns as usual. An update returns whether it was used.

# %%
gan, generator, discriminator = make_gan()
updates = make_updates(gan, on_nonfinite="skip")
step = make_step(gan, generator, discriminator, updates)
broken = ring[:256].copy()
broken[7] = np.nan
names, logs = moved(step, broken, noise_of(0, 256))
print("the discriminator's update was used:", bool(logs["taken"]))
assert names == variables_of("generator")

# %% [markdown]
# To skip the second update whenever the first one was skipped, give it a loss that is NaN then:
# `update(gradients, tf.where(taken, g_loss, np.nan))`.
#
# ## Save and resume
#
# A {py:class}`gradloop.loops.Checkpoint` saves a dict: both networks, both updates with the state of their
# optimizers, and the number of steps, which the noise depends on. We stop after 20 steps. The second call
# makes new objects, as a new process would, and goes on to 40:


# %%
def training(folder, steps):
    gan, generator, discriminator = make_gan()
    updates = make_updates(gan)
    step = make_step(gan, generator, discriminator, updates)
    data = loops.Batches(ring, None, batch_size=256)
    state = {"gan": gan, **updates, "steps": 0}
    checkpoint = loops.Checkpoint(folder)
    batches = checkpoint.restore(state, data)
    while state["steps"] < steps:
        if not batches.remaining:
            batches = iter(data)
        real = next(batches)
        step(real, noise_of(state["steps"], len(real)))
        state["steps"] += 1
    checkpoint.save(state, batches)
    return gan.get_weights()


folder = tempfile.mkdtemp()
training(folder, steps=20)
resumed = training(folder, steps=40)
at_once = training(tempfile.mkdtemp(), steps=40)
assert all((one == other).all() for one, other in zip(resumed, at_once))

# %% [markdown]
# What is not in the dict is not saved. So draw random numbers from a seed and the number of the step, as
# here, or from a `keras.random.SeedGenerator` that is in the dict.
#
# ## Where to go from here
#
# - `scripts/examples/gan.py` is the same with images, a progress bar, TensorBoard and signals, on one device
#   or several.
# - [Own loops](../own_loops.md): what a step with several updates gets, and what it does not.
# - [Several devices](devices.py), [stopping and resuming](resume.py).
