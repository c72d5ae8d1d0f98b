"""Coming from a `train_step` of your own: both columns."""

import keras
import tensorflow as tf

from gradloop import loops

cross_entropy = (
    keras.losses.sparse_categorical_crossentropy
)


class Adversarial(keras.Model):
    """Trains on inputs moved against the network."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.seen = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.seen]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            tape.watch(x)
            attack = tf.reduce_mean(
                cross_entropy(y, self.network(x))
            )
        x += 0.1 * tf.sign(tape.gradient(attack, x))
        with tf.GradientTape() as tape:
            out = self.network(x, training=True)
            loss = tf.reduce_mean(
                cross_entropy(y, out)
            )
        variables = self.network.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply(gradients, variables)
        self.seen.update_state(loss)
        return {"loss": self.seen.result()}


def keras_loss(model, x, y):
    adversarial = Adversarial(model)
    adversarial.compile(keras.optimizers.Adam(0.01))
    history = adversarial.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    return history.history


def adversarial_loss(model, batch, training=True):
    x, y = batch
    if training:
        with tf.GradientTape() as tape:
            tape.watch(x)
            attack = tf.reduce_mean(
                cross_entropy(y, model(x))
            )
        x += 0.1 * tf.sign(tape.gradient(attack, x))
    out = model(x, training=training)
    loss = loops.mean_loss(cross_entropy(y, out))
    return loss, out


def gradloop_loss(model, x, y):
    step = loops.TrainStep(
        model,
        adversarial_loss,
        keras.optimizers.Adam(0.01),
    )
    history = loops.train(
        step,
        loops.Batches(x, y, 16, shuffle=False),
        epochs=2,
    )
    return history.history


class SignDescent(keras.Model):
    """Changes the gradients before the update."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            out = self.network(x, training=True)
            loss = tf.reduce_mean(
                cross_entropy(y, out)
            )
        variables = self.network.trainable_variables
        gradients = tape.gradient(loss, variables)
        gradients = [tf.sign(g) for g in gradients]
        self.optimizer.apply(gradients, variables)
        return {"loss": loss}


def keras_gradients(model, x, y):
    signs = SignDescent(model)
    signs.compile(keras.optimizers.SGD(0.01))
    signs.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
    )


def gradloop_gradients(model, x, y):
    update = loops.Update(
        keras.optimizers.SGD(0.01),
        model.trainable_variables,
    )

    @loops.replicated
    def step(x, y):
        with tf.GradientTape() as tape:
            out = model(x, training=True)
            loss = loops.mean_loss(
                cross_entropy(y, out)
            )
        gradients = tape.gradient(
            loss, update.variables
        )
        update([tf.sign(g) for g in gradients], loss)
        return {"loss": loss}

    data = loops.Batches(x, y, 16, shuffle=False)
    for _ in range(2):
        for images, labels in data:
            step(images, labels)
