#!/usr/bin/env python3
"""Text classification with a small transformer: masks, a rate that warms up, weight decay by kind.

It tells good reviews from bad ones. They are of a toy grammar in which words alone do not say which: "not"
turns the next adjective around, and of two statements one decides, the second after "but", the first before
"although". So "the food was not bad but the staff was never very friendly" is bad. (Vaswani et al. 2017,
"Attention is all you need", arXiv:1706.03762; each block begins with its normalization, as in Xiong et al.
2020, arXiv:2002.04745, and weights decay as in Loshchilov & Hutter 2019, arXiv:1711.05101.)

With seed 0, it is right about all of 600 reviews that it was not trained on, after 23 seconds of a CPU. With
`--blocks 0`, the mean of the words without attention, it is right about half of them.
"""

import argparse
import time
from pathlib import Path

LENGTH, WIDTH, HEADS = 16, 32, 4  # words in a review, values for a word, heads of attention
SUBJECTS, NOT = "food room staff music bill view".split(), "not never hardly".split()
GOOD, BAD = "good great fresh friendly warm clean".split(), "bad awful stale rude cold dirty".split()
WORDS = ["", *SUBJECTS, *NOT, *GOOD, *BAD, "the", "was", "very", "but", "although"]  # number 0 fills up


def options() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--blocks", type=int, default=2, help="of attention; 0 averages the words alone (default: 2)")
    defaults = {"examples": 3000, "epochs": 10, "batch-size": 64, "learning-rate": 0.003, "seed": 0}
    for name, default in defaults.items():
        add(f"--{name}", type=type(default), default=default, help=f"default: {default}")
    add("--log-dir", type=Path, help="default: runs/text_transformer-TIME")
    return parser.parse_args()


def main() -> None:
    args = options()
    log_dir = args.log_dir or Path("runs") / time.strftime("text_transformer-%Y%m%d-%H%M%S")
    import keras  # after the options: --help answers at once
    import numpy as np
    from keras import layers, ops

    from gradloop import loops, optim

    keras.utils.set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    def statement() -> tuple[str, bool]:
        """Such as "the staff was never very friendly", and whether that is good."""
        good, turned = rng.random(2) < 0.5
        words = ["the", rng.choice(SUBJECTS), "was", *rng.choice(NOT, int(turned))]
        words += ["very"] * rng.integers(0, 3) + [rng.choice(GOOD if good else BAD)]
        return " ".join(words), bool(good != turned)

    def review() -> tuple[str, bool]:
        (first, first_good), (second, second_good) = statement(), statement()
        joint = rng.choice(["", "but", "although"])
        if not joint:
            return first, first_good
        return f"{first} {joint} {second}", second_good if joint == "but" else first_good

    reviews: dict[str, bool] = {}  # each once: none is both in the training data and in the test data
    while len(reviews) < args.examples:
        reviews.update([review()])
    texts, labels = np.zeros((len(reviews), LENGTH), "int32"), np.array([*reviews.values()], "int32")
    for row, text in zip(texts, reviews):
        words = text.split()
        row[: len(words)] = [WORDS.index(word) for word in words]
    held_out = len(texts) // 5
    data = loops.Batches(texts[held_out:], labels[held_out:], args.batch_size, seed=args.seed)
    test = loops.Batches(texts[:held_out], labels[:held_out], 256, shuffle=False)

    inputs = keras.Input((LENGTH,), dtype="int32")
    # The masks are explicit: in Keras 3 an implicit one (`mask_zero`) ends where tensors are added by `+`.
    is_word = ops.not_equal(inputs, 0)
    positions = ops.cumsum(ops.ones_like(inputs), axis=1) - 1
    values = layers.Embedding(len(WORDS), WIDTH)(inputs) + layers.Embedding(LENGTH, WIDTH)(positions)
    for _ in range(args.blocks):
        normed = layers.LayerNormalization()(values)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
        values = values + attention(normed, normed, attention_mask=is_word[:, None])
        hidden = layers.Dense(4 * WIDTH, activation="gelu")(layers.LayerNormalization()(values))
        values = values + layers.Dense(WIDTH)(hidden)
    mean = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(values), mask=is_word)
    model = keras.Model(inputs, layers.Dense(2)(mean), name="transformer")

    # Kernels decay; embeddings, biases, and the scales of normalizations do not.
    kernels = optim.Group(optim.kind("kernel"), weight_decay=0.01)
    plan = optim.partition(
        model, {"kernels": kernels, "others": optim.Group(~optim.kind("kernel"), weight_decay=0.0)}
    )
    print(plan)
    # The rate rises for a tenth of the updates and falls to near 0 in the rest, both in a straight line.
    rate = optim.SlantedTriangular(args.learning_rate, max(10, args.epochs * len(data)))
    optimizer = optim.GroupedOptimizer(keras.optimizers.AdamW(rate), plan)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    step = loops.TrainStep(model, loss, optimizer, metrics=["accuracy"], clip_norm=1.0)
    callbacks = [loops.ProgressBar(), loops.TensorBoard(log_dir)]
    history = loops.train(step, data, epochs=args.epochs, validation=test, callbacks=callbacks).history

    model.save(log_dir / "transformer.keras")
    print(
        f"\nRight about  {history['val_accuracy'][-1]:.1%} of {held_out:,} reviews that it was not trained on"
    )
    print(f"TensorBoard  tensorboard --logdir {log_dir}")
    print(f"Model        {log_dir}/transformer.keras")


if __name__ == "__main__":
    main()
