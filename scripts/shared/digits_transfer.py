"""From the digits 0 to 4 to 5 to 9: frozen convolutions beside a network that starts from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import plots
from .command_line import quiet_import, refuse, refusing, tensorboard
from .digit_images import DataError, load
from shared.tables import table

if TYPE_CHECKING:
    import keras

EPOCHS = 40
EXAMPLES = 100
RUNS = 5
FROZEN, NOTHING = "frozen convolutions", "from nothing"
_SOURCE_EPOCHS = 10
_RATE = 2e-3
_LOSS = "sparse_categorical_crossentropy"

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]
History = dict[str, list[float]]


def run(examples: int, epochs: int, batch_size: int, seed: int, log_dir: Path) -> None:
    """Trains on 0 to 4, then both ways on a few of 5 to 9, five times each, and prints the accuracies.

    The seed is that of the first network, and of the first of the five runs (which examples, their order, the
    new layers); the others count up.
    """
    with quiet_import():
        import keras

        from gradloop import loops, models
    with refusing(DataError):
        data = load("digits")
    low_train, low_test = digits(data.x_train, data.y_train, 0), digits(data.x_test, data.y_test, 0)
    high_train, high_test = digits(data.x_train, data.y_train, 5), digits(data.x_test, data.y_test, 5)
    least = int(np.bincount(high_train[1]).min())
    if examples > 5 * least:
        refuse(f"--examples {examples}: there are {least} of the rarest digit, so at most {5 * least}")
    print(f"Data      digits: {len(low_train[1]):,} images of 0 to 4; {examples} of 5 to 9 to learn from, "
          f"{len(high_test[1]):,} to test on", flush=True)

    keras.utils.set_random_seed(seed)
    source = models.lenet5_functional(5)
    step = loops.TrainStep(source, _LOSS, keras.optimizers.Adam(_RATE), metrics=["accuracy"])
    history = loops.train(
        step, loops.Batches(*low_train, 64, seed=seed), epochs=_SOURCE_EPOCHS,
        validation=loops.Batches(*low_test, 256, shuffle=False), callbacks=[loops.ProgressBar()],
    ).history
    print(f"Source    LeNet-5 on 0 to 4: {history['val_accuracy'][-1]:.1%} right", flush=True)

    runs: dict[str, list[History]] = {FROZEN: [], NOTHING: []}
    for each in range(seed, seed + RUNS):
        few = balanced_subset(high_train, examples, each)
        for name, histories in runs.items():
            log = loops.TensorBoard(
                str(log_dir / f"{name.replace(' ', '-')}-{each}"),
                hparams={"start": name, "seed": each, "examples": examples, "batch_size": batch_size},
            )
            start = source if name == FROZEN else None
            histories.append(learn(few, high_test, epochs, batch_size, each, log, start))
    print(f"\n{results(runs)}\n\nTensorBoard  {tensorboard(log_dir)}")
    title = f"LeNet-5 on {examples} examples of the digits 5 to 9, {RUNS} runs: mean and range"
    lines = {name: [each["val_accuracy"] for each in several] for name, several in runs.items()}
    plots.save(log_dir / "curves.png", lambda picture: plots.ranges(lines, picture, title))


def digits(x: NDArray[np.float32], y: NDArray[np.int64], first: int) -> Labelled:
    """Five digits from `first` on, their labels from 0."""
    mask = (y >= first) & (y < first + 5)
    return x[mask], y[mask] - first


def balanced_subset(images: Labelled, examples: int, seed: int) -> Labelled:
    """So many examples, of each label as many as of any other, or one more."""
    x, y = images
    order = np.random.default_rng(seed).permutation(len(y))
    by_label = [order[y[order] == label] for label in range(5)]
    chosen = [part[: examples // 5 + (label < examples % 5)] for label, part in enumerate(by_label)]
    rows = np.sort(np.concatenate(chosen))
    return x[rows], y[rows]


def learn(
    few: Labelled,
    test: Labelled,
    epochs: int,
    batch_size: int,
    seed: int,
    log: keras.callbacks.Callback,
    source: keras.Model | None = None,
) -> History:
    """Trains a new LeNet-5; with `source` its convolutions are that network's, and stay.

    The dense layers begin the same and see the same images in the same order either way.
    """
    import keras

    from gradloop import loops, models, optim

    keras.utils.set_random_seed(seed)
    model = models.lenet5_functional(5)
    images = loops.Batches(*few, batch_size, seed=seed)
    held_out = loops.Batches(*test, 256, shuffle=False)
    part, variables = model, None
    if source is not None:
        for variable, learnt in zip(optim.select(model, "conv"), optim.select(source, "conv"), strict=True):
            variable.assign(learnt)
        cached = models.cache_frozen(model, "fc", images)
        held_out = models.cache_frozen(model, "fc", held_out).data
        part, variables, images = cached.model, cached.variables, cached.data
    step = loops.TrainStep(
        part, _LOSS, keras.optimizers.Adam(_RATE), variables=variables, metrics=["accuracy"]
    )
    return loops.train(step, images, epochs=epochs, validation=held_out, callbacks=[log]).history


def results(runs: dict[str, list[History]]) -> str:
    """The table on screen: test accuracies after the last epoch."""
    rows = []
    for name, histories in runs.items():
        last = [history["val_accuracy"][-1] for history in histories]
        spread = f"{np.std(last, ddof=1):.1%}"
        rows.append([name, f"{np.mean(last):.1%}", spread, *(f"{one:.1%}" for one in last)])
    return table(["test accuracy", "mean", "deviation", *(f"run {n + 1}" for n in range(RUNS))], rows)
