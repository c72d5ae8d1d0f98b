"""What docs/own_loops.md takes for granted: networks, updates, data."""

import tempfile

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

generator = keras.Sequential([keras.Input((64,)), keras.layers.Dense(3)], name="generator")
critic = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)], name="critic")
gan = keras.Sequential([generator, critic])
update_generator = loops.Update(keras.optimizers.SGD(0.1), generator.trainable_variables)
update_critic = loops.Update(keras.optimizers.SGD(0.1), critic.trainable_variables)
seeds = keras.random.SeedGenerator(0)
epochs = 1

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax", name="dense")])
optimizer = keras.optimizers.SGD(0.1)
update = loops.Update(optimizer, model.trainable_variables)
losses = keras.losses.sparse_categorical_crossentropy
x, y = np.ones((8, 3), "float32"), np.zeros((8, 1), "float32")
data = loops.Batches(x, None, batch_size=4)
dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
log_dir, first = tempfile.mkdtemp(), 1
