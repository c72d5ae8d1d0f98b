"""Steps with functions inside, on a single thread for operations: set before TensorFlow starts."""

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

tf.config.threading.set_inter_op_parallelism_threads(1)

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
data = loops.Batches(np.ones((8, 3), "float32"), np.zeros((8, 2), "float32"), 2)


@tf.function
def inner(x):
    return tf.cond(tf.reduce_sum(x) > 0.0, lambda: x * 2.0, lambda: x)


def loss(model, batch):
    return tf.reduce_mean(inner(model(batch[0], training=True)) ** 2)


inner(tf.ones([2, 2]))
for step in (
    loops.TrainStep(model, loss, "sgd"),
    loops.TrainStep(model, "mse", "sgd", accumulate=2, on_nonfinite="skip"),
    loops.TrainStep(model, "mse", keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), accumulate=2),
):
    step(np.ones((2, 3), "float32"), np.zeros((2, 2), "float32"))
    assert len(step.run(iter(data), 4)["loss"]) == 4
print("done")
