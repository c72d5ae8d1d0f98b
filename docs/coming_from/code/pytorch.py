"""Coming from PyTorch: the right column."""

import os

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, optim


def gradloop_groups(model):
    plan = optim.partition(
        model,
        {
            "hidden": optim.Group(
                "hidden",
                learning_rate=1e-4,
                weight_decay=optim.KernelDecay(0.01),
            ),
            "head": optim.Group(
                "head", weight_decay=0.0
            ),
        },
    )
    optimizer = optim.GroupedOptimizer(
        keras.optimizers.AdamW(1e-3, epsilon=1e-8),
        plan,
    )
    optimizer.set_learning_rate("hidden", 5e-5)
    assert list(optimizer.learning_rates) == [
        "hidden",
        "head",
    ]
    return optimizer


def gradloop_loop(model, x, y):
    loss_of = (
        keras.losses.SparseCategoricalCrossentropy(
            reduction="none"
        )
    )
    update = loops.Update(
        keras.optimizers.SGD(0.1, momentum=0.9),
        model.trainable_variables,
        clip_norm=1.0,
    )

    @loops.replicated
    def step(x, y):
        with tf.GradientTape() as tape:
            out = model(x, training=True)
            loss = loops.mean_loss(loss_of(y, out))
        gradients = tape.gradient(
            loss, update.variables
        )
        update(gradients, loss)
        return {"loss": loss}

    data = loops.Batches(x, y, 16, seed=1)
    for _ in range(2):
        for inputs, labels in data:
            logs = step(inputs, labels)
    assert float(logs["loss"]) > 0


def gradloop_evaluate(model, x_test, y_test):
    right = 0
    data = loops.Batches(
        x_test, y_test, 16, shuffle=False
    )
    for inputs, labels in data:
        out = model(inputs, training=False)
        found = tf.argmax(out, -1, labels.dtype)
        right += int(
            tf.reduce_sum(
                tf.cast(found == labels, tf.int32)
            )
        )

    # or, on the device:
    check = loops.EvalStep(
        model,
        "sparse_categorical_crossentropy",
        ["accuracy"],
    )
    accuracy = loops.evaluate(check, data)["accuracy"]
    assert abs(accuracy - right / len(x_test)) < 1e-6


def gradloop_state(network, x, y, folder):
    def make_step(model):
        return loops.TrainStep(
            model,
            "sparse_categorical_crossentropy",
            keras.optimizers.Adam(0.01),
        )

    # weights alone
    model = network()
    path = os.path.join(folder, "all.weights.h5")
    model.save_weights(path)
    model.load_weights(path)

    # weights, optimizer, random numbers, place in the data
    step, data = make_step(model), loops.Batches(
        x, y, 16
    )
    iterator = iter(data)
    step.run(iterator, steps=3)
    checkpoint = loops.Checkpoint(folder, verbose=0)
    checkpoint.save(step, iterator)

    other = network()  # in another process, say
    again = make_step(other)
    iterator = checkpoint.restore(again, data)
    assert iterator.position == 3
    for one, two in zip(
        model.get_weights(), other.get_weights()
    ):
        np.testing.assert_array_equal(one, two)


def gradloop_devices(network, x, y):
    with loops.strategy("auto").scope():
        model = network()
        step = loops.TrainStep(
            model,
            "sparse_categorical_crossentropy",
            keras.optimizers.SGD(0.1),
            clip_norm=1.0,
        )
    # 32 examples of all devices together
    loops.train(
        step, loops.Batches(x, y, 32), epochs=1
    )
    if loops.is_chief():
        assert step.model.count_params() > 0
