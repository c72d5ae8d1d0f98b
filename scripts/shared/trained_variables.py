"""What of a network trains, and from when on: the options `--strategy`, `--from` and `--unfreeze`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from .command_line import refuse

if TYPE_CHECKING:
    import keras

    from gradloop import optim

# From epoch to what trains from then on, as `loops.Unfreeze` takes it.
Stages: TypeAlias = "Mapping[int, optim.FilterLike]"


def stages(text: str) -> Stages | str:
    """An argparse type: `top-down`, or TIME:FILTER pairs with commas between."""
    if text == "top-down":
        return text
    found: dict[int, optim.FilterLike] = {}
    for part in text.split(","):
        when, colon, what = part.partition(":")
        if not colon or not what.strip() or not when.strip().isdecimal():
            raise argparse.ArgumentTypeError(f"wanted EPOCH:FILTER, such as 0:head,2:all, got {part or text}")
        if int(when) in found:
            raise argparse.ArgumentTypeError(f"epoch {int(when)} comes twice in {text}")
        found[int(when)] = "*" if what.strip() == "all" else what.strip()
    return found


def settle_unfreeze(args: argparse.Namespace, epochs: int) -> None:
    """Refuses an `--unfreeze` that contradicts other options; alone, it is of the whole network."""
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


def what_trains(
    args: argparse.Namespace, model: keras.Model, images: int | None
) -> tuple[Sequence[keras.Variable], str]:
    """The variables that the options say to train, the head among them, and why these.

    `images` is how many there are to train on, which `--strategy auto` goes by; None if that is not known
    yet, where it stands for any number: what is refused is refused for all of them. ValueError or
    SelectionError for options that name nothing, or contradict each other on this network.
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
    trained, _ = staged(model, trained, args.unfreeze)
    norm = keras.layers.BatchNormalization  # which never trains
    first = next(layer for layer in model.layers if layer.trainable_weights and not isinstance(layer, norm))
    if args.cache and {id(variable) for variable in first.weights} & {id(variable) for variable in trained}:
        raise ValueError(
            f"--cache keeps what is frozen, and here all trains from {first.name} on, the first layer: leave "
            "it out, or let the first layers be"
        )
    return trained, why


def staged(
    model: keras.Model, trained: Sequence[keras.Variable], unfreeze: Stages | str | None
) -> tuple[Sequence[keras.Variable], Stages | None]:
    """What trains by the end of `unfreeze` (as in `Recipe`), and stages for `loops.Unfreeze`.

    BatchNorm is in none of them, and the head in the first: features under a random head learn nothing.
    ValueError for `"top-down"` where the head alone trains, SelectionError for a stage without variables.
    """
    import keras

    from gradloop import optim

    norms = optim.layer_type(keras.layers.BatchNormalization)
    if isinstance(unfreeze, Mapping):
        head = optim.name("head")
        stages = {0: head} | {when: ~norms & what for when, what in unfreeze.items()}
        stages[0] |= head
        for stage in stages.values():  # each alone: beside others, one without variables is no error
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
