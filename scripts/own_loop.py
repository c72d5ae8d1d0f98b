#!/usr/bin/env python3
"""A loop wholly of one's own: a small GAN draws digits. One replicated step holds two updates."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import datasets
from command_line import Parser, check_writable, number, quiet_import, refusing

NOISE = 64
EXAMPLES = """examples:
  own_loop.py                              5,000 digits, a minute or two
  own_loop.py --strategy mirrored:cpu:2    the same numbers, on two replicas
"""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(__doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("--data", default="digits", metavar="digits|mnist|FILE.npz|FOLDER", help="images of 28x28")
    add("--epochs", type=number(int, at_least=1), default=40, metavar="N", help="default: 40")
    add("--batch-size", type=number(int, at_least=2), default=64, metavar="N", help="default: 64")
    add("--learning-rate", type=number(float, above=0), default=1e-3, metavar="RATE", help="default: 0.001")
    add("--seed", type=number(int, at_least=0, below=2**31), default=0, metavar="N", help="default: 0")
    add("--strategy", default="auto", metavar="NAME", help="see `loops.strategy` (default: auto)")
    add("--log-dir", type=Path, metavar="FOLDER", help="default: runs/gan-TIME")
    return parser.parse_args(argv)


def networks(keras: Any) -> tuple[Any, Any]:
    """A generator, from noise to images in 0 to 1, and a discriminator, from images to a logit."""
    layers = keras.layers
    generator = keras.Sequential([
        keras.Input((NOISE,)),
        layers.Dense(7 * 7 * 64, activation="relu"),
        layers.Reshape((7, 7, 64)),
        layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid"),
    ], name="generator")  # fmt: skip
    discriminator = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 4, strides=2, padding="same", activation="leaky_relu"),
        layers.Conv2D(64, 4, strides=2, padding="same", activation="leaky_relu"),
        layers.Flatten(),
        layers.Dense(1),
    ], name="discriminator")  # fmt: skip
    return generator, discriminator


def main() -> None:
    """Trains both networks against each other, and shows what the generator draws after each epoch."""
    args = parse()
    log_dir = args.log_dir or Path("runs") / time.strftime("gan-%Y%m%d-%H%M%S")
    check_writable("--log-dir", log_dir)
    with quiet_import():
        import keras
        import tensorflow as tf
        from tqdm import tqdm

        from gradloop import loops, optim

    with refusing(ValueError, TimeoutError, option="--strategy", parameter="spec"):
        strategy = loops.strategy(args.strategy)
    with refusing(datasets.DataError):
        data = datasets.load(args.data)
    keras.utils.set_random_seed(args.seed)
    images = loops.Batches(data.x_train, None, args.batch_size, seed=args.seed)
    entropy = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")
    with strategy.scope():
        generator, discriminator = networks(keras)
        gan = keras.Sequential([generator, discriminator])
        # Two optimizers over two selections of one model: neither can move the other's weights.
        # Adam's usual epsilon, 1e-7, makes whole steps of rounding errors, which no two machines have alike.
        adams = [keras.optimizers.Adam(args.learning_rate, beta_1=0.5, epsilon=1e-4) for _ in "ab"]
        drawing = loops.Update(adams[0], optim.select(gan, "generator/*"))
        judging = loops.Update(adams[1], optim.select(gan, "discriminator/*"))

        @loops.replicated
        def step(real: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.GradientTape(persistent=True) as tape:
                drawn = generator(noise, training=True)
                said, saw = discriminator(drawn, training=True), discriminator(real, training=True)
                fooled = loops.mean_loss(entropy(tf.ones_like(said), said))
                # Real is 0.9: a judge that is never quite sure leaves the other something to learn.
                judged = entropy(tf.zeros_like(said), said) + entropy(0.9 * tf.ones_like(saw), saw)
                caught = loops.mean_loss(judged)
            drawing(tape.gradient(fooled, drawing.variables))
            judging(tape.gradient(caught, judging.variables))
            return {"generator": fooled, "discriminator": caught}

    samples = tf.random.stateless_normal((25, NOISE), (args.seed, -1))
    writer, done = tf.summary.create_file_writer(str(log_dir)), 0
    for epoch in range(args.epochs):
        bar = tqdm(images, desc=f"Epoch {epoch + 1}/{args.epochs}", unit="step", mininterval=0.5)
        for real in bar:
            # Of the step's number, and made for the whole batch: the same on any number of replicas.
            noise = tf.random.stateless_normal((len(real), NOISE), (args.seed, done))
            with refusing(ValueError, loops.NonFiniteError):
                losses = step(real, noise)
            done += 1
            bar.set_postfix({name: f"{float(loss):.3f}" for name, loss in losses.items()}, refresh=False)
        with writer.as_default(step=epoch + 1):
            for name, loss in losses.items():
                tf.summary.scalar(name, loss)  # of the epoch's last step
            rows = tf.reshape(generator(samples), (5, 5, 28, 28))
            tf.summary.image("drawn", tf.reshape(tf.transpose(rows, (0, 2, 1, 3)), (1, 140, 140, 1)))
    writer.close()
    generator.save(log_dir / "generator.keras")
    print(f"\nTensorBoard  tensorboard --logdir {log_dir}   (its tab Images)")
    print(f"Generator    {log_dir / 'generator.keras'}")


if __name__ == "__main__":
    main()
