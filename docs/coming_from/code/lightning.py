"""Coming from Lightning: the right column."""

import os

import keras
import tensorflow as tf

from gradloop import loops

cross_entropy = (
    keras.losses.sparse_categorical_crossentropy
)


def loss(model, batch, training=True):
    """`training_step` and `validation_step` in one."""
    x, y = batch
    out = model(x, training=training)
    confidence = tf.reduce_mean(
        tf.reduce_max(out, -1)
    )
    loops.record("confidence", confidence)  # self.log
    value = loops.mean_loss(cross_entropy(y, out))
    return value, out


def gradloop_module(model, x, y, x_test, y_test):
    step = loops.TrainStep(
        model,
        loss,
        keras.optimizers.Adam(1e-3),
        metrics=["accuracy"],
    )
    history = loops.train(
        step,
        loops.Batches(x, y, 16),
        epochs=2,
        validation=loops.Batches(x_test, y_test, 16),
    )
    assert set(history.history) == {
        "loss",
        "accuracy",
        "confidence",
        "val_loss",
        "val_accuracy",
        "val_confidence",
    }


def gradloop_trainer(
    model, x, y, x_test, y_test, folder
):
    step = loops.TrainStep(
        model,
        loss,
        keras.optimizers.Adam(1e-3),
        accumulate=2,
        clip_norm=0.5,
    )
    checkpoint = loops.Checkpoint(
        os.path.join(folder, "checkpoints"),
        keep=[
            loops.Best("val_loss"),
            loops.Latest(1),
        ],
        time_limit="11h50m",
    )
    loops.train(
        step,
        loops.Batches(x, y, 16),
        epochs=2,
        validation=loops.Batches(x_test, y_test, 16),
        callbacks=[
            keras.callbacks.EarlyStopping(patience=3),
            loops.TensorBoard(
                os.path.join(folder, "logs")
            ),
        ],
        checkpoint=checkpoint,  # resumes by itself
    )
    assert os.listdir(checkpoint.folder)


def gradloop_debugging(model, x, y):
    step = loops.TrainStep(
        model, loss, keras.optimizers.Adam(1e-3)
    )
    data = loops.Batches(x, y, 16)
    report = loops.preflight(step, data)
    assert "learned_by_heart" in report.passed
    assert int(step.optimizer.iterations.numpy()) == 0

    # overfit_batches=1
    few = loops.Batches(
        x[:16], y[:16], 16, shuffle=False
    )
    history = loops.train(step, few, epochs=5).history
    assert history["loss"][-1] < history["loss"][0]

    # limit_train_batches=2
    loops.train(
        step, data, epochs=1, steps_per_epoch=2
    )
