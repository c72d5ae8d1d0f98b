# %% [markdown]
# # Making it fast
#
# After this page you know where the time of a training step goes, what `loops.train` does about it by
# itself, and which settings help. The ratios on this page are of CPU time, and were measured when the page
# was built, on the machine that built it. Other machines give other numbers, so measure on yours.
#
# If a run is slow, look in this order:
#
# 1. Does each step wait for its data? `speed/waiting_for_data` in TensorBoard, or `loops.preflight`.
# 2. Does Python run between the steps? A loop of your own, or a callback with a batch hook.
# 3. Is the step traced again and again? `step.traces`.
# 4. Is it the arithmetic? Mixed precision, XLA, threads, more devices, or computing frozen layers once.

# %%
import time

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

rng = np.random.default_rng(0)
x = rng.random((6400, 64), "float32")
y = (x.sum(axis=1) > 32).astype("int64")


def new_step():
    """A step of a small network, in which the arithmetic takes little time."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((64,)),
        keras.layers.Dense(32, activation="relu", name="body"),
        keras.layers.Dense(2, activation="softmax", name="head"),
    ])  # fmt: skip
    return loops.TrainStep(model, "sparse_categorical_crossentropy", "sgd")


def seconds(function):
    """The CPU time of a call, the least of three, after one that may trace."""
    times = []
    for _ in range(4):
        start = time.process_time()  # other programs on the machine do not count in it
        function()
        times.append(time.process_time() - start)
    return min(times[1:])


# %% [markdown]
# ## Many steps in one call
#
# Each call from Python into TensorFlow costs some hundred microseconds: arguments are checked, a batch is
# gathered, a result comes back. A small network's step takes less than that. `step.run(iterator, steps)`
# runs many steps in one call. The numbers are the same, and the result has a value for each step.

# %%
data = loops.Batches(x, y, batch_size=32, seed=0)  # 200 batches
step = new_step()


def call_by_call():
    for batch in data:
        step(*batch)


def in_one_call():
    return step.run(iter(data), 200)


ratio = seconds(call_by_call) / seconds(in_one_call)
print(f"a call for each step takes {ratio:.1f} times the time of one call for 200 steps")
assert ratio > 1 and in_one_call()["loss"].shape == (200,)

# %% [markdown]
# `loops.train` does this for you. It runs as many steps in a call as take about 0.2 s, so that the progress
# bar moves and `Ctrl-C` is answered soon. A Keras callback with a **batch hook** (`on_train_batch_end` and
# the like) needs Python after each step, and gets it. If a callback only reads values, derive it from
# `loops.StepsCallback`: it is given the values of many steps at a time.


# %%
class EachStep(keras.callbacks.Callback):
    """Runs after each step."""

    def on_train_batch_end(self, batch, logs=None):
        self.largest = max(getattr(self, "largest", 0.0), logs["loss"])


class ManySteps(loops.StepsCallback):
    """Runs after each call, with an array for each name."""

    def on_train_steps_end(self, first, values):
        self.largest = max(getattr(self, "largest", 0.0), values["loss"].max())


def training(callback):
    return lambda: loops.train(step, data, epochs=1, callbacks=[callback])


ratio = seconds(training(EachStep())) / seconds(training(ManySteps()))
print(f"with a batch hook an epoch takes {ratio:.1f} times the time")
assert ratio > 1

# %% [markdown]
# A `tf.data.Dataset` is read inside of the call, too. In a loop of your own, write the steps as a
# `loops.TrainStep`, or put your own `for _ in tf.range(n)` into a `tf.function`.
#
# ## Traced again
#
# Before the first step TensorFlow traces your model into a graph, for seconds in a large network. Each
# further trace costs the same again. `step.traces` counts them:

# %%
step = new_step()
step.run(iter(data), 10)
print("first call", step.traces)

step.run(iter(loops.Batches(x[:70], y[:70], batch_size=32)), 3)
print("a short last batch of 6, other data", step.traces)
step.optimizer.learning_rate = 0.02
step.run(iter(data), 10)
print("another learning rate", step.traces)
assert step.traces == 1

step.train_only("head")
step.run(iter(data), 10)
print("another choice of what trains", step.traces)
step.train_only("*")
step.run(iter(data), 10)
print("the first choice again", step.traces)
assert step.traces == 2

step.run(iter(loops.Batches(x, y, batch_size=64)), 10)
print("another batch size of a `Batches`", step.traces)
assert step.traces == 3

# %% [markdown]
# Sequences of many lengths cost one more trace; the length is open from then on. In a step of your own, under
# `@loops.replicated` as in each `tf.function`, a **Python number is part of the trace**: each new value
# traces again. Pass tensors or arrays.

# %%
traced = []


@loops.replicated
def scaled(batch, factor):
    traced.append(factor)  # Python code runs while it is traced, and only then
    return tf.reduce_mean(batch * factor)


for factor in (0.1, 0.2, 0.3):
    scaled(x[:4], factor)
as_numbers = len(traced)
for factor in (0.1, 0.2, 0.3):
    scaled(x[:4], tf.constant(factor))
as_tensors = len(traced) - as_numbers
print("traces:", as_numbers, "for three Python numbers,", as_tensors, "for three tensors")
assert (as_numbers, as_tensors) == (3, 1)

# %% [markdown]
# ## Waiting for data
#
# - **Data that fits in memory**: `loops.Batches`. The arrays are on the device, and the step reads its
#   batch there. With `transform=` augmentation runs in the same call.
# - **Larger data**: a `tf.data.Dataset` that ends in `.prefetch(tf.data.AUTOTUNE)`, so that a thread reads
#   ahead while the step runs. Further: `map(..., num_parallel_calls=tf.data.AUTOTUNE)`, `cache()` after
#   what is costly and always the same, and `batch` before `map` if your function takes batches.
#
# The same batches both ways:

# %%
dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(6400, seed=0).batch(32).prefetch(2)
step = new_step()
ratio = seconds(lambda: step.run(iter(dataset), 200)) / seconds(lambda: step.run(iter(data), 200))
print(f"from a dataset the steps take {ratio:.1f} times the time that they take from a `Batches`")

# %% [markdown]
# In TensorBoard, `speed/waiting_for_data` is the share of a step's time in which it waits for its batch.
# Before the run, `loops.preflight(step, data)` reports it if it is more than a third.
#
# ## The arithmetic
#
# **Frozen layers** need not be computed in each epoch: `models.cache_frozen`, see
# [fine-tuning](fine_tuning.py). Gradients are computed for what trains alone, so `train_only("head")` saves
# most of the backward pass, too.
#
# **Mixed precision** is for GPUs with units for float16; activations take half the memory. On most CPUs it
# is slower. Set it before you make the model. A `TrainStep` adds the loss scale that float16 needs.

# %%
keras.config.set_dtype_policy("mixed_float16")
step = new_step()
print(type(step.optimizer).__name__, "around", type(step.inner_optimizer).__name__)
keras.config.set_dtype_policy("float32")

# %% [markdown]
# `"mixed_bfloat16"` needs no loss scale. Weights and updates are float32 in both.
#
# **XLA** (`jit_compile`) joins operations into larger kernels. `"auto"`, the default, uses it on GPUs
# alone, since XLA's convolutions are several times slower than TensorFlow's on a CPU. A network of other
# layers may gain by `jit_compile=True` on a CPU; compiling takes seconds, so measure over many steps.
#
# **Accumulation** (`accumulate=4`) makes an update of four batches. It saves memory, not time: use it if
# the batch that you want does not fit on the device.
#
# **A plan of groups** costs no time: `optim.GroupedOptimizer` updates each variable by one fused operation
# where TensorFlow has one (`optimizer.fused` tells).
#
# ## CPU: oneDNN and threads
#
# Both are set before TensorFlow starts:
#
# ```sh
# TF_ENABLE_ONEDNN_OPTS=1 python train.py      # Intel's kernels; many CPUs have them on already
# ```
#
# ```python
# tf.config.threading.set_intra_op_parallelism_threads(1)  # for very small networks
# ```
#
# With oneDNN on or off, numbers differ by rounding.
#
# ## What else costs time
#
# - Watched steps of TensorBoard, each tenth by default: `watch_every=100` where steps are short.
#   `histograms`, `activations` and `images` cost more, and are off by default.
# - Many checkpoints of a large model, although a thread writes them: `Checkpoint(every_minutes=10)`.
# - The check for NaN: small, and it saves runs. `on_nonfinite="ignore"` leaves it out.
# - Metrics: each is computed in each step. AUC and the like are larger than accuracy.
#
# ## Measure
#
# `scripts/benchmark.py` runs gradloop beside `fit`, hand-written loops and other libraries in turn, and
# prints medians and ratios:
#
# ```sh
# scripts/benchmark.py --parts steps --only gradloop bare fit --network lenet5 --batch-size 32
# ```
#
# [Results](../results.md) has the figures of some machines. Next: [several devices](devices.py),
# [watching](watching.py).
