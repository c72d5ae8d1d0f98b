# %% [markdown]
# # Saving, loading and serving
#
# After this page you can choose the right file for each purpose: to go on with training, to move weights
# into another network, to keep a head, or to serve a model without gradloop and without your Python code.
#
# gradloop trains Keras models, and saving is Keras' own. This page adds what is special with groups of
# learning rates, weights by name, and checkpoints.
#
# | file | holds | read by |
# |---|---|---|
# | `model.keras` | layers, weights, optimizer with its groups | `keras.models.load_model` |
# | `all.weights.h5` | weights and optimizer state of this very model | `model.load_weights` |
# | `head.npz` | weights that you choose, by name | `models.load_weights` |
# | folder `served` | weights and the computation, no training | `tf.saved_model.load`, `TFSMLayer` |
# | folder `checkpoint-7` | all that a run needs to resume | the same call, `models.load_weights` |
#
# In the same order they are written by `model.save`, `model.save_weights`, `models.save_weights`,
# `model.export` and {py:class}`gradloop.loops.Checkpoint`.

# %%
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, models, optim

folder = tempfile.mkdtemp()
rng = np.random.default_rng(0)
x = rng.random((256, 28, 28, 1), "float32")
y = (x[:, :14].mean(axis=(1, 2, 3)) > x[:, 14:].mean(axis=(1, 2, 3))).astype("int64")
LOSS = "sparse_categorical_crossentropy"

keras.utils.set_random_seed(0)
model = models.lenet5_functional(2)
plan = optim.partition(model, {"features": optim.Group("conv", lr_scale=0.1), "rest": "fc"})
optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(1e-3), plan)
step = loops.TrainStep(model, LOSS, optimizer)
_ = loops.train(step, loops.Batches(x, y, 32, seed=0), epochs=1)

# %% [markdown]
# ## The whole model, and how to go on with training
#
# `model.save` writes the optimizer too, with the plan of groups as it is now: rates, scales, and what is
# frozen. A step on the loaded model and its optimizer goes on where the saved one was. Both runs give the
# same weights:

# %%
file = os.path.join(folder, "model.keras")
model.save(file)

loaded = keras.models.load_model(file)
print(loaded.optimizer.plan)
going_on = loops.TrainStep(loaded, LOSS, loaded.optimizer)


def one_more_epoch(step):
    """Trains on the same batches, in the same order."""
    data = loops.Batches(x, y, 32, seed=0)
    data.epoch = 1
    loops.train(step, data, epochs=1)
    return step.model.get_weights()


for was_saved, was_not in zip(one_more_epoch(going_on), one_more_epoch(step), strict=True):
    assert np.array_equal(was_saved, was_not)
assert int(loaded.optimizer.iterations.numpy()) == 16

# %% [markdown]
# Three things to know:
#
# - `import gradloop.optim` before you load: Keras must know the class `GroupedOptimizer`. To load the network
#   alone, without the optimizer, use `load_model(file, compile=False)`; a network of Keras' own layers then
#   needs no gradloop.
# - If you called `model.compile` with another optimizer, the file has that one, and a warning says so.
# - The file has no position in the data, and no callbacks. To stop and resume a run, use
#   [a checkpoint](resume.py).
#
# ## Weights of this model
#
# `.weights.h5` files hold weights and optimizer state, and fit a model of the same layers.

# %%
file = os.path.join(folder, "all.weights.h5")
model.save_weights(file)
keras.utils.set_random_seed(5)
again = models.lenet5_functional(2)
again.load_weights(file)
assert np.array_equal(again(x[:8]), model(x[:8]))

# %% [markdown]
# ## Weights by name, and parts of a network
#
# `models.save_weights` writes what your filters select, under stable names, and `models.load_weights` puts
# it into each network that has weights of these names and shapes. So you can move the features of one
# network into another, or keep one head for each task:

# %%
print(models.save_weights(model, os.path.join(folder, "features.npz"), "conv"))

other = models.lenet5_functional(7)  # seven classes: fc3 has another shape
models.load_weights(other, os.path.join(folder, "features.npz"))
assert np.array_equal(other.get_layer("conv2").kernel, model.get_layer("conv2").kernel)

# %% [markdown]
# A name or a shape that does not fit is an error, and nothing is loaded then. (Keras' `load_weights(...,
# skip_mismatch=True)` loads the rest with a warning.)

# %%
models.save_weights(model, os.path.join(folder, "all.npz"))
before = other.get_weights()
try:
    models.load_weights(other, os.path.join(folder, "all.npz"))
except ValueError as error:
    print(str(error).replace(folder, "..."))
else:
    raise AssertionError("it was loaded")
assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights()))

# %% [markdown]
# The file is a plain `.npz`: `np.load("features.npz")["conv1/kernel"]` reads it without gradloop.
#
# ## Weights of a checkpoint
#
# `models.load_weights` also takes the folder of one checkpoint, for example the best one of a run:

# %%
keras.utils.set_random_seed(0)
trained = models.lenet5_functional(2)
keep = [loops.Latest(2), loops.Best("val_loss")]
checkpoint = loops.Checkpoint(os.path.join(folder, "run"), keep=keep)
test = loops.Batches(x, y, 64, shuffle=False)
step = loops.TrainStep(trained, LOSS, keras.optimizers.Adam(1e-3))
data = loops.Batches(x, y, 32)
history = loops.train(step, data, epochs=3, validation=test, checkpoint=checkpoint)
best = models.lenet5_functional(2)
models.load_weights(best, checkpoint.best)
value = loops.evaluate(loops.EvalStep(best, LOSS), test)["loss"]
losses = history.history["val_loss"]
print("validation", [round(loss, 4) for loss in losses], " best checkpoint", round(value, 4))
assert np.isclose(value, min(losses), rtol=1e-5)

# %% [markdown]
# ## Serving
#
# `model.export` writes a SavedModel: the computation as TensorFlow operations, without Python code.
# TensorFlow Serving, C++, or another Python program can run it, and none of them needs gradloop or your
# classes.

# %%
served = os.path.join(folder, "served")
model.export(served, verbose=False)

restored = tf.saved_model.load(served)  # keep this object: its weights go with it
answer = restored.serve(x[:4])
layer = keras.layers.TFSMLayer(served, call_endpoint="serve")  # the same in a Keras model
assert np.allclose(answer, model(x[:4]), atol=1e-6) and np.allclose(layer(x[:4]), answer, atol=1e-6)
print(np.round(answer.numpy()[:, 1], 3))

# %% [markdown]
# Make preprocessing a part of the model, so that whoever serves it need not know of it: `models.backbone` has
# it inside; for other data, `keras.layers.Rescaling(1 / 255)` and `Normalization` are layers.
#
# With an optimizer that averages weights (`use_ema=True`), `train` ends with the averages in the model, so
# the files have these.
#
# ## Which one?
#
# - The run may be killed: `train(..., checkpoint=...)`.
# - The run is done, and somebody trains on later: `model.save("model.keras")`.
# - Only the numbers, for the same code: `.weights.h5`. For other code or parts: `models.save_weights`.
# - To answer requests: `model.export`.
#
# Next: [stopping and resuming](resume.py), [fine-tuning](fine_tuning.py).
