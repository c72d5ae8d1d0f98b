"""What two replicas refuse, and `replicated` on both. Logical devices must be made before all else."""

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

two = loops.strategy("mirrored:cpu:2")
x, y = np.ones((8, 3), "float32"), np.zeros((8, 1), "float32")
K = keras.optimizers


def make():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def refuses(part, call):
    try:
        call()
    except ValueError as error:
        assert part in str(error), f"{part!r} is not in {error}"
    else:
        raise AssertionError(part)


def inside(call):
    with two.scope():
        return call()


outside_model, outside = make(), K.SGD(0.1)
model = inside(make)
optimizer = inside(lambda: K.SGD(0.1))
step = loops.TrainStep(model, "mse", optimizer)

refuses(
    "`model` was made outside of the scope of the MirroredStrategy of 2 replicas",
    lambda: inside(lambda: loops.TrainStep(outside_model, "mse", optimizer)),
)
refuses(
    "`optimizer` was made inside the scope of a MirroredStrategy of 2 replicas, the model outside of it",
    lambda: loops.TrainStep(outside_model, "mse", optimizer),
)
refuses(
    "`optimizer` was made outside of the scope of the model's MirroredStrategy of 2 replicas: make",
    lambda: loops.TrainStep(model, "mse", outside),
)
refuses("`optimizer` was made outside", lambda: loops.Update(outside, model.trainable_variables))
refuses(
    "`metrics` was made outside", lambda: loops.TrainStep(model, "mse", "sgd", metrics=[keras.metrics.AUC()])
)
refuses(
    "`variables` was made partly inside and partly outside of a strategy's scope",
    lambda: loops.Update(optimizer, [*model.trainable_variables, *outside_model.trainable_variables]),
)
refuses(
    "`gradient_accumulation_steps=2`, which fails in a TensorFlow function on several replicas",
    lambda: loops.Update(
        inside(lambda: K.SGD(0.1, gradient_accumulation_steps=2)), model.trainable_variables
    ),
)
refuses(
    "`ema_overwrite_frequency=2`, which fails in a TensorFlow function on several replicas",
    lambda: loops.Update(
        inside(lambda: K.SGD(0.1, use_ema=True, ema_overwrite_frequency=2)), model.trainable_variables
    ),
)

update = loops.Update(optimizer, model.trainable_variables)
zeros = [tf.zeros(v.shape) for v in model.trainable_variables]
refuses(
    "`Update` was called outside of the replicas of its MirroredStrategy of 2 replicas", lambda: update(zeros)
)

refuses(
    "batches of 1 examples are too small for 2 replicas",
    lambda: loops.train(step, loops.Batches(x, y, 1), epochs=1),
)
dataset = tf.data.Dataset.from_tensor_slices((x, y))
refuses(
    "batches of 1 examples are too small",
    lambda: loops.train(step, dataset.batch(1, drop_remainder=True), epochs=1),
)
refuses(
    "has no examples to split over 2 replicas",
    lambda: loops.train(step, tf.data.Dataset.from_tensors((x[0, 0], y[0, 0])), epochs=1),
)
assert np.isfinite(loops.train(step, dataset.batch(3), epochs=1).history["loss"][0])

with two.scope():
    joined = loops.replicated(lambda a, b: {"rows": a + b, "sum": tf.reduce_sum(a), "yes": tf.constant(True)})
    scaled = loops.replicated(lambda a, factor, name=None: a * factor)
found = joined(np.arange(5.0), np.ones(5))
assert found["rows"].numpy().tolist() == [1, 2, 3, 4, 5] and float(found["sum"]) == 10 and bool(found["yes"])
assert scaled(np.arange(3.0), 2.0, name="text").numpy().tolist() == [0, 2, 4]
parts = two.experimental_distribute_values_from_function(
    lambda context: tf.fill([1], float(context.replica_id_in_sync_group))
)
assert joined(parts, parts)["rows"].numpy().tolist() == [0, 2]
refuses(
    "some arguments that are distributed over replicas and some that are not",
    lambda: joined(parts, np.ones(2)),
)
refuses("arrays of lengths [2, 3]", lambda: joined(np.ones(2), np.ones(3)))

# The mean over examples that are not equally many on both replicas, weighted and not.
mean = inside(lambda: loops.replicated(lambda a, w: loops.mean_loss(a, sample_weight=w)))
a, w = np.arange(5.0, dtype="float32"), np.array([1, 0, 2, 0, 1], "float32")
assert abs(float(mean(a, np.ones(5, "float32"))) - a.mean()) < 1e-6
assert abs(float(mean(a, w)) - (a * w).mean()) < 1e-6
print("done")
