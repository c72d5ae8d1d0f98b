# %% [markdown]
# # Choose what trains
#
# After this page you can train any part of a network, and freeze the other layers: by the names of its
# variables, by the class of a layer, by its place in the network, or by a rule of your own. A choice that
# selects nothing is an error, which says what you may have meant.

# %%
import re

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from gradloop import loops, optim

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x, y = rng.random((64, 16, 16, 3), "float32"), rng.integers(0, 4, 64)

# %% [markdown]
# ## Why `"conv" in v.name` selects nothing
#
# In Keras 2 a variable was called `conv1/kernel:0`. In Keras 3, `variable.name` is only the last part,
# `kernel`. So this line, which is in many programs, finds nothing. And an optimizer that gets an empty list
# does nothing: there is no error, and the loss does not change.


# %%
model = keras.Sequential([
    keras.Input((16, 16, 3)),
    layers.Conv2D(8, 3, activation="relu", name="stem_conv"),
    layers.BatchNormalization(name="stem_bn"),
    layers.Conv2D(8, 3, activation="relu", name="block1_conv"),
    layers.Conv2D(8, 3, activation="relu", name="block2_conv"),
    layers.GlobalAveragePooling2D(name="pool"),
    layers.Dense(16, activation="relu", name="hidden"),
    layers.Dense(4, name="head"),
], name="net")  # fmt: skip
print(sorted({variable.name for variable in model.trainable_variables}))
found = [variable for variable in model.trainable_variables if "conv" in variable.name]
print(found)
assert found == []
keras.optimizers.SGD(0.1).apply([], [])  # nothing happens, without an error

# %% [markdown]
# `variable.path` has the name of the layer. But in a class of your own it does not have your attribute names.
# And Keras counts all layers of the process, so a second network of the same class has other names:


# %%
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder = layers.Dense(3)
        self.decoder = layers.Dense(2)

    def call(self, inputs):
        return self.decoder(self.encoder(inputs))


for _ in range(2):
    net = Net()
    net(np.ones((1, 2)))  # makes its variables
    print([variable.path for variable in net.variables])

# %% [markdown]
# ## Stable names
#
# {py:func}`gradloop.optim.named_variables` gives each variable a name that is the same in every process: by
# the attributes of your class, or by the names of layers in a Functional or Sequential model. Filters,
# tables, checkpoints, TensorBoard and the errors of a `TrainStep` use these names.

# %%
print(list(optim.named_variables(net)))
print(list(optim.named_variables(model))[:6])

# %% [markdown]
# ## Select
#
# {py:func}`gradloop.optim.select` returns the trainable variables that at least one of its filters matches. A
# plain string must be at the beginning of a word of the name:

# %%
print([variable.path for variable in optim.select(model, "conv")])
# (This would not find `block10_conv`.)
print([variable.path for variable in optim.select(model, "block1")])

# %% [markdown]
# These are all kinds of filters, with the number of variables, out of 12, that each one selects:

# %%
filters = {
    "a word of the name": "conv",
    "a glob": "block[12]_*/kernel",
    "a regular expression": re.compile(r"^(hidden|head)/"),
    "a class of layers": layers.Conv2D,
    "the last part of the name": optim.kind("bias"),
    "layers by name": optim.layers("stem_conv", "stem_bn"),
    "the last layers": optim.last_layers(2),
    "a layer and all after it": optim.from_layer("block2_conv"),
    "a function": lambda info: len(info.variable.shape) > 1,
    "both": optim.name("conv") & optim.kind("kernel"),
    "either": optim.name("stem") | layers.Dense,
    "all others": ~optim.name("head"),
}
for what, chosen in filters.items():
    print(f"{what:26} {len(optim.select(model, chosen)):2}")
assert len(optim.select(model, *filters.values())) == 12

# %% [markdown]
# In a network that you did not write, a class of layers is the safest filter. In ResNet50 of
# `keras.applications`, BatchNorm layers have "conv" in their names too (`conv1_bn`). In MobileNetV2, most
# convolutions do not have it.
#
# A function gets a {py:class}`gradloop.optim.VariableInfo` with `name`, `variable`, `layer` and `kind`. `~`
# needs a filter object, and so does one side of `&` and `|`: write `optim.name("conv") & "block1"`, because
# Python cannot combine two strings.
#
# ## See what you chose
#
# {py:func}`gradloop.optim.summary` prints all variables, and which of them train:

# %%
print(optim.summary(model, optim.select(model, "block", "head")))

# %% [markdown]
# ## Errors that help
#
# A filter that matches nothing is an error. It says what you may have meant.


# %%
def fails(action):
    """Prints the error that `action` raises."""
    try:
        action()
    except (ValueError, TypeError) as error:
        print(f"{type(error).__name__}: {error}\n")
    else:
        raise AssertionError("there was no error")


fails(lambda: optim.select(model, "haed"))  # spelling
fails(lambda: optim.select(model, "Block1"))  # upper case
fails(lambda: optim.select(model, "onv"))  # not at the beginning of a word
# `and` instead of `&`
fails(lambda: optim.select(model, optim.name("stem") and optim.kind("bias")))

# %% [markdown]
# ## Train what you chose
#
# A {py:class}`gradloop.loops.TrainStep` takes filters as `variables`. In a loop of your own, the same choice
# is `loops.Update(optimizer, optim.select(model, "hidden", "head"))`. Gradients are computed for these
# variables only, so a step that trains the last layers is also faster. `train_only` changes the choice later.
# The optimizer keeps the state of every variable, and the step is traced once for each new choice.

# %%
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
step = loops.TrainStep(model, loss, "adam", variables=["hidden", "head"])


def changed_by_a_step():
    """The names of the variables that a step changes, moving statistics included."""
    named = optim.named_variables(model)
    before = {name: variable.numpy() for name, variable in named.items()}
    step(x, y)
    return [name for name in named if (before[name] != named[name].numpy()).any()]


print(changed_by_a_step())
step.train_only("block", optim.kind("bias"))
print(changed_by_a_step())

# %% [markdown]
# ## A variable that the loss does not reach
#
# You may choose a variable that the loss does not depend on. `tape.gradient` then returns None for it, and it
# never trains. gradloop tells you:

# %%
pair = Net()
pair(np.ones((1, 16)))


def loss_of_encoder(model, batch):
    return tf.reduce_mean(model.encoder(batch[0]))


step_of_pair = loops.TrainStep(pair, loss_of_encoder, "sgd")
fails(lambda: step_of_pair(np.ones((8, 16), "float32")))

# %% [markdown]
# ## A BatchNorm layer that does not train
#
# A BatchNorm layer writes its moving statistics in every training step, even if its own variables do not
# train. So a "frozen" network changes, and fine-tuning on few images can destroy it. In a `TrainStep`, a
# BatchNorm layer whose variables you did not choose runs in inference mode: above, its statistics did not
# change. When it trains, they do:

# %%
step.train_only("*")
assert {"stem_bn/moving_mean", "stem_bn/moving_variance"} < set(changed_by_a_step())
step.train_only("head")
assert changed_by_a_step() == ["head/kernel", "head/bias"]

# %% [markdown]
# `layer.trainable = False` works too. What it freezes cannot be selected, and the error names the layer:

# %%
model.get_layer("block1_conv").trainable = False
fails(lambda: optim.select(model, "block1"))
model.get_layer("block1_conv").trainable = True

# %% [markdown]
# ## Where to go from here
#
# - A learning rate for each part: [rates by group](rates.py).
# - Freeze a pretrained network, and unfreeze it step by step: [fine-tuning](fine_tuning.py).
# - The exact rules of each filter: {py:func}`gradloop.optim.name`, {py:func}`gradloop.optim.layer_type`.
