"""How the scripts fine-tune a network with a new head: rates, stages, averages, the best epoch."""

from __future__ import annotations

import argparse
import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .command_line import number, one_of
from .trained_variables import unfreeze_stages

if TYPE_CHECKING:
    import keras

    from gradloop import loops, optim

    from .augmentation import Transform
    from .photos import Part
    from .trained_variables import Stages

LOSS = "sparse_categorical_crossentropy"
_HEAD_RATE = 1e-3  # a head alone is a small convex problem, which Adam's usual rate suits
_EVALUATION_BATCH = 128


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned once its head has been put on."""

    epochs: int = 6  # passes over the images in the main stage
    # Passes of the head alone before it, on features computed once; 0 for none. A head that starts at random
    # would first pull the features under it apart (Kumar et al. 2022, arXiv:2202.10054).
    head_epochs: int = 10
    batch_size: int = 32
    highest: float = 3e-4  # learning rate of the head after the warm-up
    lowest: float = 3e-5  # that of the first layers that train; the rates between are a geometric series
    runs: int = 4  # of layers, each with a rate of its own, into which what trains below the head is split
    warmup: float = 0.2  # share of all steps in which the rates rise from 0; then they fall down a cosine
    weight_decay: float = 0.0  # decoupled, of kernels alone
    ema: float = 0.99  # momentum of the averaged weights, which are evaluated and saved; 0 for none
    # Stages as `loops.Unfreeze` takes them, which then say what trains; `"top-down"` for one run of layers
    # more each epoch, from the head down; None for all from the start.
    unfreeze: Stages | str | None = None
    seed: int = 0  # of the order, the augmentation and dropout


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which network is fine-tuned, which `backbone` reads."""
    add = parser.add_argument
    add("--backbone", default="MobileNetV2", metavar="NAME",
        help="a network of keras.applications (default: MobileNetV2)")
    add("--weights", type=_weights, default="imagenet", metavar="imagenet|none|FILE",
        help="imagenet: downloaded by Keras (default); FILE: an .h5 file of them; none: random ones")
    add("--preprocessing", type=one_of(["own", "tf", "torch", "caffe"]), default="own", metavar="NAME",
        help="what pixels become first: the network's own (default); tf, torch or caffe for weights from "
        "elsewhere that expect it")
    add("--size", type=number(int, at_least=16), default=96, metavar="PIXELS",
        help="side that images are resized to (default: 96)")


def _weights(text: str) -> str:
    """An argparse type: what `--weights` takes; a file must be there."""
    if text not in ("imagenet", "none") and not (text.endswith(".h5") and Path(text).is_file()):
        raise argparse.ArgumentTypeError(f"wanted imagenet, none or an .h5 file that is there, got {text}")
    return text


def backbone(args: argparse.Namespace) -> keras.Model:
    """The network of `add_network_options`, without a head."""
    from gradloop import models

    weights = None if args.weights == "none" else args.weights
    shape = (args.size, args.size, 3)
    return models.backbone(args.backbone, shape, weights, preprocessing=args.preprocessing)


def plan_of(model: keras.Model, trained: Sequence[keras.Variable], recipe: Recipe) -> optim.Plan:
    """Groups with geometric rates for what trains, from its first layers to the head.

    BatchNorm is frozen, statistics and all: a few thousand images are too few to learn other ones. The model
    is the network, or the part of it that `models.cache_frozen` gives.
    """
    import keras

    from gradloop import optim

    ids = {id(variable) for variable in trained}
    norms = optim.layer_type(keras.layers.BatchNormalization)
    head = optim.name("head")

    def chosen(info: optim.VariableInfo) -> bool:
        return id(info.variable) in ids

    levels = []
    for depth in optim.depths(model):
        level = depth & chosen & ~norms & ~head
        try:
            optim.select(model, level)
        except optim.SelectionError:
            continue  # all of this depth is frozen, or the head's
        levels.append(level)
    count = min(recipe.runs, len(levels))
    decay = optim.KernelDecay(recipe.weight_decay)
    groups = {}
    for index, run in enumerate(np.array_split(np.arange(len(levels)), count) if count else []):
        where = functools.reduce(operator.or_, (levels[level] for level in run))
        scale = (recipe.lowest / recipe.highest) ** (1 - index / count)
        groups[f"body_{index + 1}"] = optim.Group(where, lr_scale=scale, weight_decay=decay)
    groups["head"] = optim.Group(head & chosen, weight_decay=decay)
    return optim.partition(model, groups, rest="freeze")


def evaluate(model: keras.Model, images: Part) -> dict[str, float]:
    """Loss and accuracy on images that were not used for training or selection."""
    from gradloop import loops

    step = loops.EvalStep(model, LOSS, ["accuracy"])
    return loops.evaluate(step, loops.Batches(*images, _EVALUATION_BATCH, shuffle=False))


def train_head(model: keras.Model, images: loops.Batches, recipe: Recipe) -> None:
    """Trains the head alone, on features of the network below it that are computed once."""
    import keras

    from gradloop import loops, models

    cached = models.cache_frozen(model, "head", images)
    step = loops.TrainStep(cached.model, LOSS, keras.optimizers.Adam(_HEAD_RATE), variables=cached.variables)
    loops.train(step, cached.data, epochs=recipe.head_epochs)


def fine_tune(
    model: keras.Model,
    trained: Sequence[keras.Variable],
    train: Part,
    validation: Part,
    recipe: Recipe,
    *,
    transform: Transform | None = None,
    cache: Path | str | None = None,
    best: Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    log: Callable[[object], None] = lambda _: None,
    preflight: bool = False,
) -> dict[str, list[float]]:
    """Trains a network whose head is called `head`.

    Args:
        model: made by `models.classifier`, within the strategy's scope that this is called in.
        trained: the variables that train in the main stage, the head among them.
        train, validation: images (n, height, width, 3) and labels (n,); the latter say which epoch was best.
        transform: of the training images, as `loops.Batches` takes it; not with `cache`.
        cache: `"memory"` or a folder, to compute what is frozen once; None to compute it at each step.
        best: a `.weights.h5` file for the weights of the epoch with the best validation accuracy, while the
            others run; None to end with those of the last epoch.
        log: takes what was decided, such as the plan.
        preflight: whether to look for usual faults before the main stage, and print them.

    Returns:
        The history of the main stage, name -> value by epoch; validation values are those of the averaged
        weights, where there are averages.
    """
    import keras

    from gradloop import loops

    if best is not None:
        best.unlink(missing_ok=True)  # of a run that was killed
    trained, stages = unfreeze_stages(model, trained, recipe.unfreeze)  # raises before the head is trained
    images = loops.Batches(*train, recipe.batch_size, seed=recipe.seed)
    held_out = loops.Batches(*validation, _EVALUATION_BATCH, shuffle=False)
    if recipe.head_epochs:
        train_head(model, images, recipe)
    part = model
    if cache is not None:
        part, images, held_out = _cached(model, trained, images, held_out, cache)
    elif transform is not None:
        images = loops.Batches(*train, recipe.batch_size, seed=recipe.seed, transform=transform)
    plan = plan_of(part, trained, recipe)
    log(plan)
    step = loops.TrainStep(part, LOSS, _optimizer(plan, recipe, len(images)), metrics=["accuracy"])
    if preflight:
        loops.preflight(step, images)
    hooks: list[keras.callbacks.Callback] = []
    if recipe.unfreeze is not None:
        hooks.append(loops.Unfreeze(stages, verbose=int(log is print)))
    if recipe.ema:
        hooks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if best is not None:
        hooks.append(
            keras.callbacks.ModelCheckpoint(
                str(best), "val_accuracy", mode="max", save_best_only=True, save_weights_only=True
            )
        )
    history = loops.train(
        step, images, epochs=recipe.epochs, validation=held_out, callbacks=[*hooks, *callbacks]
    )
    if best is not None and best.exists():
        part.load_weights(best)
        best.unlink()  # it may be of a part of the network, so of no use to anybody
    return history.history


def _cached(
    model: keras.Model,
    trained: Sequence[keras.Variable],
    images: loops.Batches,
    held_out: loops.Batches,
    cache: Path | str,
) -> tuple[keras.Model, loops.Batches, loops.Batches]:
    """The part of the network that trains, and features to train and to validate it on."""
    from gradloop import models

    train_folder, validation_folder = (
        None if cache == "memory" else Path(cache) / part for part in ("train", "validation")
    )
    training = models.cache_frozen(model, list(trained), images, path=train_folder)
    validation = models.cache_frozen(model, list(trained), held_out, path=validation_folder)
    return training.model, training.data, validation.data


def _optimizer(plan: optim.Plan, recipe: Recipe, steps_per_epoch: int) -> optim.GroupedOptimizer:
    import keras

    from gradloop import optim

    steps = recipe.epochs * steps_per_epoch
    rising = min(int(recipe.warmup * steps), steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - rising, warmup_target=recipe.highest, warmup_steps=rising
    )
    averages = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    return optim.GroupedOptimizer(keras.optimizers.AdamW(schedule, **averages), plan)
