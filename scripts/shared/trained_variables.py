"""Which variables of a network train: the options `--strategy`, `--from` and `--unfreeze`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from .command_line import refuse

if TYPE_CHECKING:
    import keras

    from gradloop import optim

# Maps an epoch to the variables that also train from then on, as for `loops.Unfreeze`.
Stages: TypeAlias = "Mapping[int, optim.FilterLike]"


def stages(text: str) -> Stages | str:
    """An argparse type: `top-down`, or TIME:FILTER pairs with commas between."""
    if text == "top-down":
        return text
    by_epoch: dict[int, optim.FilterLike] = {}
    for part in text.split(","):
        when, colon, what = part.partition(":")
        if not colon or not what.strip() or not when.strip().isdecimal():
            raise argparse.ArgumentTypeError(f"wanted EPOCH:FILTER, such as 0:head,2:all, got {part or text}")
        if int(when) in by_epoch:
            raise argparse.ArgumentTypeError(f"epoch {int(when)} comes twice in {text}")
        by_epoch[int(when)] = "*" if what.strip() == "all" else what.strip()
    return by_epoch


def check_unfreeze(args: argparse.Namespace, epochs: int) -> None:
    """Refuses an `--unfreeze` that contradicts other options; without them, it sets `--strategy all`."""
    if args.unfreeze == "top-down":
        if args.strategy == "head":
            refuse("--unfreeze goes from the head down, and --strategy head trains the head alone: choose "
                   "top or all, or leave one of both out")
        if args.strategy == "auto" and not args.from_layer:
            args.strategy = "all"
        return
    if args.from_layer or args.strategy != "auto":
        other = "--from" if args.from_layer else "--strategy"
        refuse(f"{other} and the stages of --unfreeze both say what trains: leave one of both out")
    last = max(args.unfreeze)
    if last >= epochs:
        refuse(f"--unfreeze: epoch {last} never comes, since --epochs {epochs} counts from 0 to "
               f"{epochs - 1}: train for longer, or unfreeze earlier")


def trained_variables(
    args: argparse.Namespace, model: keras.Model, images: int | None
) -> tuple[Sequence[keras.Variable], str]:
    """The variables that the options choose, always with the head, and the reason.

    `images` is the number of training images, on which `--strategy auto` depends; None if it is not known
    yet: errors do not depend on it. Raises ValueError or SelectionError for options that match nothing, or
    contradict each other on this network.
    """
    import keras

    from gradloop import models, optim

    trained: Sequence[keras.Variable] = []
    if isinstance(args.unfreeze, dict):
        why = "what --unfreeze names"
    elif args.from_layer:
        trained, why = optim.select(model, optim.from_layer(args.from_layer)), f"from {args.from_layer} on"
    else:
        advice = (
            models.recommend(images or 1, args.similar == "yes") if args.strategy == "auto"
            else models.Strategy.named(args.strategy)
        )
        trained, why = optim.partition(model, advice).trained, str(advice)
    trained, _ = unfreeze_stages(model, trained, args.unfreeze)
    norm = keras.layers.BatchNormalization  # which never trains
    first = next(layer for layer in model.layers if layer.trainable_weights and not isinstance(layer, norm))
    if args.cache and {id(variable) for variable in first.weights} & {id(variable) for variable in trained}:
        raise ValueError(
            f"--cache keeps what is frozen, and here all trains from {first.name} on, the first layer: leave "
            "it out, or let the first layers be"
        )
    return trained, why


def unfreeze_stages(
    model: keras.Model, trained: Sequence[keras.Variable], unfreeze: Stages | str | None
) -> tuple[Sequence[keras.Variable], Stages | None]:
    """The variables that train at the end of `unfreeze` (as in `Recipe`), and stages for `loops.Unfreeze`.

    BatchNorm is in no stage, and the head in the first: features under a random head learn nothing. Raises
    ValueError for `"top-down"` if the head alone trains, SelectionError for a stage without variables.
    """
    import keras

    from gradloop import optim

    norms = optim.layer_type(keras.layers.BatchNormalization)
    if isinstance(unfreeze, Mapping):
        head = optim.name("head")
        stages = {0: head} | {when: ~norms & what for when, what in unfreeze.items()}
        stages[0] |= head
        for stage in stages.values():  # one by one: in a list, one that matches nothing is no error
            optim.select(model, stage)
        return optim.select(model, *stages.values()), stages
    if unfreeze is not None:
        below = {id(variable) for variable in optim.select(model, ~norms & ~optim.name("head"))}
        if not any(id(variable) in below for variable in trained):
            raise ValueError(
                "--unfreeze goes from the head down, and here the head alone trains (BatchNorm never does): "
                "let layers below it train, or leave it out"
            )
    return trained, None
