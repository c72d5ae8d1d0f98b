"""Preflights on two replicas: with a norm over both, with one on each, and with a loss function."""

import json
import warnings

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

strategy = loops.strategy("mirrored:cpu:2")
warnings.simplefilter("error")  # what a preflight says in its report, it does not say twice
keras.utils.set_random_seed(0)
random = np.random.RandomState(0)
y = random.randint(0, 3, 96)
x = (random.randn(3, 8)[y] + 0.3 * random.randn(96, 8)).astype("float32")


def loss(model, batch):
    losses = keras.losses.sparse_categorical_crossentropy(batch[1], model(batch[0], training=True))
    return loops.mean_loss(losses)


def step(loss, *norms):
    layers = [keras.layers.Dense(16, "relu"), *norms, keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((8,)), *layers])
    return loops.TrainStep(model, loss, keras.optimizers.Adam(1e-3))


with strategy.scope():
    steps = [
        step("sparse_categorical_crossentropy", keras.layers.BatchNormalization(synchronized=True)),
        step("sparse_categorical_crossentropy", keras.layers.BatchNormalization()),
        step(loss, keras.layers.Dropout(0.3)),
    ]
batches = loops.Batches(x, y, 32)
data = [tf.data.Dataset.from_tensor_slices((x, y)).shuffle(96).batch(32), loops.Batches(x, y, 8), batches]
reports, same = [], []
for each, source in zip(steps, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each replica with its own statistics
        before = {name: variable.numpy() for name, variable in each.state().items()}
    reports.append(loops.preflight(each, source))
    after = {name: variable.numpy() for name, variable in each.state().items()}
    same.append(all(after[name].tobytes() == value.tobytes() for name, value in before.items()))
print(
    json.dumps(
        {
            "found": [[finding.name for finding in report.findings] for report in reports],
            "passed": reports[0].passed["batch_for_norms"],
            "message": reports[1].findings[0].message,
            "as it was": same,
        }
    )
)
