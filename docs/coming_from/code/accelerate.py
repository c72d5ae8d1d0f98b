"""Coming from Accelerate: the right column."""

import os

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

LOSS = "sparse_categorical_crossentropy"


def gradloop_loop(network, x, y):
    with loops.strategy("auto").scope():
        model = network()
        step = loops.TrainStep(
            model,
            LOSS,
            keras.optimizers.AdamW(1e-3),
            accumulate=2,
            clip_norm=1.0,
        )
    data = loops.Batches(x, y, 16)
    for inputs, labels in data:
        logs = step(inputs, labels)
    step.flush()  # what is left of the last two
    assert float(logs["loss"]) > 0


def gradloop_own_step(network, x, y):
    with loops.strategy("auto").scope():
        model = network()
        update = loops.Update(
            keras.optimizers.AdamW(1e-3),
            model.trainable_variables,
            clip_norm=1.0,
            accumulate=2,
        )
        loss_of = keras.losses.SparseCategoricalCrossentropy(
            reduction="none"
        )

        @loops.replicated
        def step(x, y):
            with tf.GradientTape() as tape:
                out = model(x, training=True)
                loss = loops.mean_loss(
                    loss_of(y, out)
                )
            update(
                tape.gradient(loss, update.variables),
                loss,
                weight=len(x),
            )
            return {"loss": loss, "out": out}

    for inputs, labels in loops.Batches(x, y, 16):
        logs = step(inputs, labels)
        # as `gather_for_metrics` has them
        assert len(logs["out"]) == len(labels)
    update.flush()


def gradloop_metrics(model, x_test, y_test):
    check = loops.EvalStep(model, LOSS, ["accuracy"])
    # 32 examples in batches of 12: the last one has 8
    data = loops.Batches(x_test, y_test, 12)
    found = loops.evaluate(check, data)["accuracy"]

    labels = np.argmax(
        model.predict(x_test, verbose=0), 1
    )
    assert (
        abs(found - np.mean(labels == y_test)) < 1e-6
    )


def gradloop_save(model, x, y, folder):
    step = loops.TrainStep(
        model, LOSS, keras.optimizers.AdamW(1e-3)
    )
    loops.train(
        step,
        loops.Batches(x, y, 16),
        epochs=1,
        checkpoint=os.path.join(folder, "run"),
    )
    assert loops.is_chief()  # is_main_process
    model.save(os.path.join(folder, "model.keras"))
