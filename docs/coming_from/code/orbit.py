"""Coming from Orbit: both columns. The left one runs where `orbit` is installed."""

import keras
import tensorflow as tf

from gradloop import loops


def orbit_run(model, x, y, x_test, y_test):
    import orbit

    class Trainer(orbit.StandardTrainer):
        def __init__(self):
            data = tf.data.Dataset.from_tensor_slices(
                (x, y)
            )
            super().__init__(data.batch(16).repeat())
            self.optimizer = keras.optimizers.Adam(
                0.01
            )
            self.optimizer.build(
                model.trainable_variables
            )
            self.loss_of = (
                keras.losses.SparseCategoricalCrossentropy()
            )

        def train_step(self, iterator):
            x, y = next(iterator)
            with tf.GradientTape() as tape:
                out = model(x, training=True)
                loss = self.loss_of(y, out)
            variables = model.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply(gradients, variables)

    class Evaluator(orbit.StandardEvaluator):
        def __init__(self):
            data = tf.data.Dataset.from_tensor_slices(
                (x_test, y_test)
            )
            super().__init__(data.batch(16))
            self.accuracy = (
                keras.metrics.SparseCategoricalAccuracy()
            )

        def eval_begin(self):
            self.accuracy.reset_state()

        def eval_step(self, iterator):
            x, y = next(iterator)
            out = model(x, training=False)
            self.accuracy.update_state(y, out)

        def eval_end(self):
            return {
                "accuracy": self.accuracy.result()
            }

    trainer = Trainer()
    controller = orbit.Controller(
        trainer=trainer,
        evaluator=Evaluator(),
        global_step=trainer.optimizer.iterations.value,
        steps_per_loop=4,
    )
    found = controller.train_and_evaluate(
        train_steps=8, eval_steps=2, eval_interval=4
    )
    return {"accuracy": found["accuracy"]}


def gradloop_run(model, x, y, x_test, y_test):
    step = loops.TrainStep(
        model,
        keras.losses.SparseCategoricalCrossentropy(),
        keras.optimizers.Adam(0.01),
        metrics=["accuracy"],
    )
    data = tf.data.Dataset.from_tensor_slices((x, y))
    test = tf.data.Dataset.from_tensor_slices(
        (x_test, y_test)
    )
    history = loops.train(
        step,
        data.batch(16).repeat(),
        epochs=2,
        steps_per_epoch=4,
        validation=test.batch(16),
    )
    return {
        "accuracy": history.history["val_accuracy"][
            -1
        ]
    }
