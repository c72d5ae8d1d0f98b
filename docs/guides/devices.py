# %% [markdown]
# # Several devices and machines
#
# After this page you can train on several GPUs (multi-GPU, data parallel) or machines by changing one
# line, and get the numbers that one device gives. You can try it on a laptop without a GPU: TensorFlow
# can split the CPU into logical devices.
#
# `loops.strategy` makes the devices. Call it before anything makes a tensor, at the start of the program,
# because TensorFlow fixes the list of devices at its first operation.

# %%
import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from gradloop import loops, optim

two = loops.strategy("mirrored:cpu:2")
one = loops.strategy("one")
print(two.num_replicas_in_sync, one.num_replicas_in_sync)

# %% [markdown]
# | name | devices |
# |---|---|
# | `"one"` | the first GPU, or else the CPU |
# | `"mirrored"`, `"mirrored:2"` | all GPUs of this machine, or so many |
# | `"mirrored:cpu:2"` | so many logical devices on the CPU: slower than one, for trying things out |
# | `"multiworker"` | several machines that train in step |
# | `"parameter_server"` | several machines that train asynchronously |
# | `"tpu"` | a TPU |
# | `"auto"` | what this process finds: the cluster in `TF_CONFIG`, several GPUs, or one device |
#
# A `tf.distribute.Strategy` of your own works in their place. A copy of the model on one device is called a
# replica.
#
# ## Two devices give the numbers of one
#
# Make the model and the step inside of the strategy's scope. The rest of the program stays the same. To
# show that the numbers are equal, this page computes in float64, where rounding cannot hide a difference.

# %%
keras.config.set_floatx("float64")
rng = np.random.default_rng(0)
x = rng.random((103, 8))
y = (x.sum(axis=1) > 4).astype("int64")


def train(strategy, *extra_layers):
    """Trains a small network; returns its losses by epoch, and its weights."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
        for layer in extra_layers:
            model.add(layer())
        model.add(keras.layers.Dense(2, activation="softmax"))
        adam = keras.optimizers.Adam(0.01)
        step = loops.TrainStep(
            model, "sparse_categorical_crossentropy", adam, metrics=["accuracy"], clip_norm=0.5
        )
    history = loops.train(step, loops.Batches(x, y, batch_size=32), epochs=5).history
    return history, {name: v.numpy() for name, v in optim.named_variables(model).items()}


def largest_difference(weights, others):
    """Of any weight of two networks."""
    return max(np.abs(weights[name] - others[name]).max() for name in weights)


history_of_one, weights_of_one = train(one)
history_of_two, weights_of_two = train(two)
print("one device ", [f"{loss:.6f}" for loss in history_of_one["loss"]][-2:])
print("two devices", [f"{loss:.6f}" for loss in history_of_two["loss"]][-2:])
difference = largest_difference(weights_of_one, weights_of_two)
print(f"largest difference of a weight after {5 * 4} steps: {difference:.1e}")
assert difference < 1e-12
assert history_of_one["accuracy"] == history_of_two["accuracy"]

# %% [markdown]
# In float32 the differences are those of rounding: a sum in another order rounds differently. (Losses are
# float32 numbers in the logs.)
#
# ## What a batch is
#
# `batch_size` is the number of examples of **all** replicas together, as on one device. So the learning
# rate need not change, and a run can move to another number of devices. To give each of 8 GPUs 32
# examples, ask for `batch_size=256`, and choose the rate for that.
#
# A batch is split by example, as evenly as possible. The 103 examples above leave a last batch of 7. This
# step returns how many examples each replica gets (what is no scalar is joined, in the order of the batch):

# %%
with two.scope():

    @loops.replicated
    def sizes(examples):
        return tf.shape(examples)[:1]


for examples in (32, 7, 1):
    print("a batch of", examples, "->", sizes(x[:examples]).numpy())
assert sizes(x[:7]).numpy().tolist() == [3, 4]

# %% [markdown]
# Each example counts once, whatever replica it is on: the loss is the mean of the 7, not a mean of the means
# of 3 and of 4. A batch of one example goes to both replicas, and counts one half on each. Masks, sample
# weights and `accumulate` follow the same rule. A loss that takes all examples of a batch together (with
# in-batch negatives, say) has no parts, and is refused with an error.
#
# ## What happens in an update
#
# Gradients are summed over the replicas, divided by the loss scale (of mixed precision), checked for NaN,
# accumulated if you ask for it, clipped, and applied, in this order. So a NaN on one replica stops or
# skips the step on all, and a limit of `clip_norm` is for the sum. (Keras clips before the sum, so its limit
# is looser on more replicas.)
#
# ## BatchNorm
#
# A plain `BatchNormalization` normalises the examples of its own replica: 16 instead of 32 on two. This is
# another computation than on one device, and a warning says so. With `synchronized=True` replicas share
# their statistics, and the numbers are those of one device.


# %%
def own_statistics():
    return keras.layers.BatchNormalization(name="norm")


def shared_statistics():
    return keras.layers.BatchNormalization(name="norm", synchronized=True)


for norm in (own_statistics, shared_statistics):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        difference = largest_difference(train(one, norm)[1], train(two, norm)[1])
    warned = any("normalises its own part" in str(warning.message) for warning in told)
    print(f"{norm.__name__:17}  difference {difference:.1e}  warned: {warned}")
    assert (difference < 1e-10) == (norm is shared_statistics) == (not warned)

# %% [markdown]
# (After each step the moving statistics are averaged over the replicas, in both cases. With Keras alone
# each replica keeps its own, and a saved file has those of the first.)
#
# ## Random numbers
#
# Each replica draws its own dropout masks, and the same seed gives the same masks again. (In Keras all
# replicas draw the same mask.) So a run with dropout has other masks on two devices than on one. What you
# draw yourself for the whole batch, outside of the step, is the same on any number of devices.

# %%
with two.scope():
    dropout = keras.layers.Dropout(0.5, seed=1)

    @loops.replicated
    def masks(ones):
        return dropout(ones, training=True)


drawn = masks(np.ones((2, 30)))
figure, axes = plt.subplots(figsize=(6, 0.9), layout="constrained")
axes.imshow(drawn, cmap="gray_r")
axes.set(xticks=[], yticks=[0, 1], yticklabels=["replica 0", "replica 1"])
axes.set_title("dropout of the same layer in one step", fontsize=9)
assert not np.array_equal(drawn[0], drawn[1])

# %% [markdown]
# ## A loop of your own
#
# `@loops.replicated` runs your step on all replicas, in one `tf.function`. It splits arrays by example, and
# **adds up** the scalars that the replicas return. So return a replica's part of a mean, which is what
# `mean_loss` gives. A `tf.reduce_mean` would be added up too, to twice the mean on two replicas.

# %%
losses = keras.losses.SparseCategoricalCrossentropy(reduction="none")


def own_loop(strategy):
    """The loss by step of a loop by hand, and the sum of the means of the replicas."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, activation="softmax")])
        update = loops.Update(keras.optimizers.SGD(0.1), model.trainable_variables, clip_norm=0.5)

        @loops.replicated
        def step(x, y):
            with tf.GradientTape() as tape:
                each = losses(y, model(x, training=True))
                loss = loops.mean_loss(each, model=model)
            update(tape.gradient(loss, update.variables))
            return {"loss": loss, "wrong": tf.reduce_mean(each)}

    steps = [step(*batch) for batch in loops.Batches(x, y, 32)]
    return [{name: float(value) for name, value in values.items()} for values in steps]


for on_one, on_two in zip(own_loop(one), own_loop(two)):
    loss, again, wrong = on_one["loss"], on_two["loss"], on_two["wrong"]
    print(f"one device {loss:.6f}  two {again:.6f}  reduce_mean on two {wrong:.6f}")
    assert np.isclose(loss, again, rtol=1e-5) and wrong > 1.9 * loss

# %% [markdown]
# [Loops of your own](../own_loops.md) has the whole table of what a `TrainStep`, `@replicated` and a plain
# `tf.function` do.
#
# ## Several machines, in step
#
# Each worker runs the same program with `loops.strategy("multiworker")`, and trains on its part of each
# batch. To try it on one machine, let `scripts/launch.py` start the workers:
#
# ```sh
# scripts/launch.py --workers 2 scripts/train_lenet.py --strategy multiworker
# scripts/launch.py --workers 2 --restarts 5 scripts/train_lenet.py --strategy multiworker --checkpoint runs/a
# ```
#
# The second command starts all workers again when one dies, and they resume from the checkpoint ([stopping
# and resuming](resume.py)). On a cluster, start the program once on each machine, with the variable that
# TensorFlow reads, or let Slurm or Kubernetes tell who is there:
#
# ```sh
# export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
#                    "task": {"type": "worker", "index": 0}}'     # index 1 on the second machine
# python train.py
# srun --ntasks=4 python train.py          # with loops.strategy("multiworker:slurm") in train.py
# python train.py                          # in each pod, with loops.strategy("multiworker:kubernetes")
# ```
#
# - All workers load the same data, in the same order: a dataset needs `shuffle(n, seed=0)`. `train` and
#   `step.run(iterator, steps)` take each worker's part of a batch. `step(x, y)` with arrays is refused.
# - One worker, the chief, shows the progress bar and writes logs and checkpoints; `loops.is_chief()` tells
#   who. All of them read checkpoints, so the folder must be on a disk that they share.
# - SIGTERM to one worker makes all of them save the same step and end.
# - A worker that does not start in time is named in a `TimeoutError`.
#
# ## Parameter servers, asynchronous
#
# ```sh
# scripts/launch.py --workers 2 --parameter-servers 1 scripts/train_lenet.py --strategy parameter_server
# ```
#
# The chief sends steps to the workers; the weights are on the parameter servers. Workers do not wait for
# each other. No update is lost, but which weights it starts from is a matter of time, so results are not
# repeatable. The data must be a `Batches`. When a worker dies, the others go on.
#
# ## What was tested, and what was not
#
# Equal numbers are tested on logical CPU devices and with two workers. TPUs, and the lists of workers that
# Slurm and Kubernetes give, are passed on to TensorFlow, and nobody has tried them.
# `scripts/check_devices.py` compares each kind of device of your machine with the CPU, in float64.
#
# Next: [stopping and resuming](resume.py), [making it fast](speed.py).
