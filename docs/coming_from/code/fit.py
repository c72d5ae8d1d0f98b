"""Coming from `compile` and `fit`: both columns."""

import keras
import numpy as np

from gradloop import loops


def keras_run(model, x, y, x_test, y_test):
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping(patience=2)
    history = model.fit(
        x,
        y,
        batch_size=16,
        epochs=3,
        shuffle=False,
        validation_data=(x_test, y_test),
        callbacks=[stop],
        verbose=0,
    )
    return history.history


def gradloop_run(model, x, y, x_test, y_test):
    step = loops.TrainStep(
        model,
        "sparse_categorical_crossentropy",
        keras.optimizers.Adam(0.01),
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping(patience=2)
    history = loops.train(
        step,
        loops.Batches(x, y, 16, shuffle=False),
        epochs=3,
        validation=loops.Batches(x_test, y_test, 16),
        callbacks=[stop],
    )
    return history.history


def keras_class_weights(model, x, y):
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        weighted_metrics=["accuracy"],
    )
    history = model.fit(
        x,
        y,
        batch_size=16,
        shuffle=False,
        class_weight={0: 1.0, 1: 5.0, 2: 0.5},
        verbose=0,
    )
    return history.history


def gradloop_class_weights(model, x, y):
    step = loops.TrainStep(
        model,
        "sparse_categorical_crossentropy",
        keras.optimizers.SGD(0.1),
        metrics=["accuracy"],
    )
    weights = np.array([1.0, 5.0, 0.5])[y]
    data = loops.Batches(
        x, y, 16, shuffle=False, sample_weight=weights
    )
    return loops.train(step, data, epochs=1).history


def keras_options(model, x, y):
    optimizer = keras.optimizers.SGD(
        0.1,
        global_clipnorm=0.5,
        gradient_accumulation_steps=2,
    )
    model.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        steps_per_execution=4,
    )
    model.fit(
        x, y, batch_size=16, shuffle=False, verbose=0
    )


def gradloop_options(model, x, y):
    step = loops.TrainStep(
        model,
        "sparse_categorical_crossentropy",
        keras.optimizers.SGD(0.1),
        clip_norm=0.5,
        accumulate=2,
    )
    # `steps_per_execution` is chosen while it runs.
    loops.train(
        step,
        loops.Batches(x, y, 16, shuffle=False),
        epochs=1,
    )


def keras_evaluate(model, x_test, y_test):
    model.compile(
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model.evaluate(
        x_test, y_test, return_dict=True, verbose=0
    )


def gradloop_evaluate(model, x_test, y_test):
    step = loops.EvalStep(
        model,
        "sparse_categorical_crossentropy",
        ["accuracy"],
    )
    return loops.evaluate(
        step, loops.Batches(x_test, y_test, 32)
    )
