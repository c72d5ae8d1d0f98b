"""Coming from Keras' guide to loops from scratch: both columns."""

import keras
import tensorflow as tf

from gradloop import loops


def keras_loop(model, x, y, x_test, y_test):
    optimizer = keras.optimizers.Adam(0.01)
    loss_of = (
        keras.losses.SparseCategoricalCrossentropy()
    )
    accuracy = (
        keras.metrics.SparseCategoricalAccuracy()
    )
    train = tf.data.Dataset.from_tensor_slices((x, y))
    test = tf.data.Dataset.from_tensor_slices(
        (x_test, y_test)
    )

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            out = model(x, training=True)
            loss = loss_of(y, out)
        variables = model.trainable_weights
        gradients = tape.gradient(loss, variables)
        optimizer.apply(gradients, variables)
        accuracy.update_state(y, out)
        return loss

    @tf.function
    def test_step(x, y):
        accuracy.update_state(
            y, model(x, training=False)
        )

    history = {"accuracy": [], "val_accuracy": []}
    for _ in range(2):
        for batch in train.batch(16):
            train_step(*batch)
        history["accuracy"].append(
            float(accuracy.result())
        )
        accuracy.reset_state()
        for batch in test.batch(16):
            test_step(*batch)
        history["val_accuracy"].append(
            float(accuracy.result())
        )
        accuracy.reset_state()
    return history


def gradloop_loop(model, x, y, x_test, y_test):
    step = loops.TrainStep(
        model,
        keras.losses.SparseCategoricalCrossentropy(),
        keras.optimizers.Adam(0.01),
        metrics=["accuracy"],
    )
    check = loops.EvalStep(
        model, step.loss, step.metrics
    )
    train = loops.Batches(x, y, 16, shuffle=False)
    test = loops.Batches(x_test, y_test, 16)

    history = {"accuracy": [], "val_accuracy": []}
    for _ in range(2):
        values = step.run(
            iter(train), steps=len(train)
        )
        history["accuracy"].append(
            values["accuracy"].mean()
        )
        history["val_accuracy"].append(
            loops.evaluate(check, test)["accuracy"]
        )
    return history


def keras_penalties(regularized, x, y):
    optimizer = keras.optimizers.SGD(0.1)
    loss_of = (
        keras.losses.SparseCategoricalCrossentropy()
    )

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            out = regularized(x, training=True)
            loss = loss_of(y, out)
            loss += sum(regularized.losses)
        variables = regularized.trainable_weights
        gradients = tape.gradient(loss, variables)
        optimizer.apply(gradients, variables)

    for start in range(0, len(x), 16):
        train_step(
            x[start : start + 16],
            y[start : start + 16],
        )


def gradloop_penalties(regularized, x, y):
    loss_of = (
        keras.losses.SparseCategoricalCrossentropy(
            reduction="none"
        )
    )
    update = loops.Update(
        keras.optimizers.SGD(0.1),
        regularized.trainable_variables,
    )

    @loops.replicated
    def step(x, y):
        with tf.GradientTape() as tape:
            out = regularized(x, training=True)
            loss = loops.mean_loss(
                loss_of(y, out), model=regularized
            )
        gradients = tape.gradient(
            loss, update.variables
        )
        update(gradients, loss)

    data = loops.Batches(x, y, 16, shuffle=False)
    for inputs, labels in data:
        step(inputs, labels)


def keras_gan(generator, critic, x, noise):
    g_optimizer = keras.optimizers.Adam(0.01)
    d_optimizer = keras.optimizers.Adam(0.02)
    loss_of = keras.losses.BinaryCrossentropy(
        from_logits=True
    )

    @tf.function
    def train_step(real, noise):
        fake = generator(noise)
        both = tf.concat([fake, real], 0)
        labels = tf.concat(
            [tf.ones((16, 1)), tf.zeros((16, 1))], 0
        )
        with tf.GradientTape() as tape:
            d_loss = loss_of(labels, critic(both))
        weights = critic.trainable_weights
        gradients = tape.gradient(d_loss, weights)
        d_optimizer.apply(gradients, weights)

        with tf.GradientTape() as tape:
            judged = critic(generator(noise))
            g_loss = loss_of(
                tf.zeros((16, 1)), judged
            )
        weights = generator.trainable_weights
        gradients = tape.gradient(g_loss, weights)
        g_optimizer.apply(gradients, weights)

    for start in range(0, len(x), 16):
        train_step(
            x[start : start + 16],
            noise[start : start + 16],
        )


def gradloop_gan(generator, critic, x, noise):
    update_g = loops.Update(
        keras.optimizers.Adam(0.01),
        generator.trainable_variables,
    )
    update_d = loops.Update(
        keras.optimizers.Adam(0.02),
        critic.trainable_variables,
    )
    loss_of = keras.losses.BinaryCrossentropy(
        from_logits=True, reduction="none"
    )

    @loops.replicated
    def step(real, noise):
        fake = generator(noise)
        both = tf.concat([fake, real], 0)
        labels = tf.concat(
            [tf.ones_like(real), tf.zeros_like(real)],
            0,
        )[:, :1]
        with tf.GradientTape() as tape:
            d_loss = loops.mean_loss(
                loss_of(labels, critic(both))
            )
        update_d(
            tape.gradient(d_loss, update_d.variables)
        )

        with tf.GradientTape() as tape:
            judged = critic(generator(noise))
            g_loss = loops.mean_loss(
                loss_of(tf.zeros_like(judged), judged)
            )
        update_g(
            tape.gradient(g_loss, update_g.variables)
        )
        return {"d_loss": d_loss, "g_loss": g_loss}

    for real, z in loops.Batches(
        x, noise, 16, shuffle=False
    ):
        step(real, z)
