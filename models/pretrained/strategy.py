"""Recommends which part of a pretrained network to train, by amount and similarity of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...optim import Filter, FilterLike, Group, SelectionError
from ...optim.common.arguments import true_or_false, whole_number
from ...optim.filters.base import as_filter
from ...optim.groups.depths import depths_of, merged
from ...optim.naming.model_tree import ModelTree

# In transfer learning, data sets of less than a few thousand images are usually called small.
FEW_EXAMPLES = 5_000
# The learning rate of pretrained layers, as a multiple of that of the new head.
_PRETRAINED_SCALE = 0.1

_WORDS = {
    "head": "train the head alone",
    "top": "train the head and the top of the backbone",
    "all": "train the whole network",
}
# By whether there are few examples, and whether they are similar.
_ADVICE = {
    (True, True): ("head", "and its features fit them as they are."),
    (True, False): (
        "top",
        "so its general first features stay; the last do not fit data that is not similar.",
    ),
    (False, True): ("top", "enough to adapt its last features; the first fit similar data as they are."),
    (False, False): ("all", "enough to learn features for data that is not similar."),
}


class Strategy(Mapping[str, Group]):
    """Which parts of a network to fine-tune, as groups for `optim.partition`. `print(strategy)` explains it.

    Args:
        name: `"head"` (feature extraction), `"top"` (head and top of the backbone) or `"all"`.
        reason: why, in a sentence.
        groups: name -> group, for each part of the network.

    Attributes:
        name, reason: as given.

    Example:
        >>> from gradloop import models, optim
        >>> strategy = models.Strategy("head", "it is quick.", {"head": optim.Group("head")})
        >>> print(strategy)
        train the head alone: it is quick.
    """

    def __init__(self, name: str, reason: str, groups: Mapping[str, Group]) -> None:
        self.name = name
        self.reason = reason
        self._groups = dict(groups)

    @classmethod
    def named(cls, name: str, *, head: FilterLike = "head", top: FilterLike | None = None) -> Strategy:
        """One of the three strategies by name, whatever the data.

        Args:
            name: `"head"`, `"top"` or `"all"`.
            head, top: as for `recommend`; None as `top` for about the last third of the backbone.

        Raises:
            ValueError: another name.

        Example:
            >>> from gradloop import models
            >>> print(models.Strategy.named("all"))
            train the whole network: as asked for.
        """
        if name not in _WORDS:
            raise ValueError(f"`name` must be one of {', '.join(map(repr, _WORDS))}, not {name!r}.")
        return cls(name, "as asked for.", _groups(name, as_filter(head), top))

    def __getitem__(self, group: str) -> Group:
        return self._groups[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __str__(self) -> str:
        return f"{_WORDS[self.name]}: {self.reason}"

    def __repr__(self) -> str:
        return f"Strategy({self.name!r}, {self.reason!r}, {self._groups!r})"


def recommend(
    examples: int, similar: bool, *, head: FilterLike = "head", top: FilterLike | None = None
) -> Strategy:
    """Recommends which part of a pretrained network to train, with a new head.

                                     similar to what it was trained on    not similar
        fewer than 5,000 examples    head alone                           head and top of the backbone
        more                         head and top of the backbone         whole network

    Where the top trains, it has a tenth of the head's rate. Where the whole network trains, it has one rate.

    Args:
        examples: number of training examples.
        similar: whether they are like the data that the network was trained on (photographs of things, for
            ImageNet).
        head: the filter that finds the new layers; those of `classifier` have names with `head`.
        top: the filter that finds the top of the backbone; None for about the last third of its layers that
            have variables, so that no residual unit or attention is cut in two (`optim.depths`).

    Returns:
        A mapping for `optim.partition`, with a frozen group for the part that does not train.

    Raises:
        ValueError: no examples.
        SelectionError: from `partition`, if `top` is None and the backbone is one block.
        TypeError: `examples` is no whole number, or `similar` neither True nor False.

    Example:
        >>> from gradloop import models, optim
        >>> strategy = models.recommend(2_000, similar=True)
        >>> strategy.name
        'head'
        >>> model = models.classifier(models.backbone("VGG16", (32, 32, 3)), 5)
        >>> [variable.path for variable in optim.partition(model, strategy).trained]
        ['head/kernel', 'head/bias']

    Reference: CS231n, "Transfer Learning", https://cs231n.github.io/transfer-learning.
    """
    examples = whole_number("examples", examples, at_least=1)
    few = examples < FEW_EXAMPLES
    name, reason = _ADVICE[few, true_or_false("similar", similar)]
    amount = f"{examples:,} examples are {'few' if few else 'many'}"
    return Strategy(name, f"{amount}, {reason}", _groups(name, as_filter(head), top))


def _groups(name: str, head: Filter, top: FilterLike | None) -> dict[str, Group]:
    if name == "head":
        return {"backbone": Group(~head, frozen=True), "head": Group(head)}
    if name == "all":
        return {"backbone": Group(~head), "head": Group(head)}
    upper = (_LastThird(head) if top is None else as_filter(top)) & ~head
    return {
        "bottom": Group(~(head | upper), frozen=True),
        "top": Group(upper, lr_scale=_PRETRAINED_SCALE),
        "head": Group(head),
    }


class _LastThird(Filter):
    """About the last third of the layers that train, without the head.

    It consists of whole depths as `optim.depths` counts them, so no residual unit or attention is cut in two.
    """

    def __init__(self, head: Filter) -> None:
        self._head = head

    def mask(self, tree: ModelTree) -> list[bool]:
        below = [trains and not head for trains, head in zip(tree.trainable_mask(), self._head.mask(tree))]
        levels = depths_of(tree, below)
        if len(levels) < 2:
            raise SelectionError(
                f"`top`: {self!r} of model {tree.model.name!r} is {levels[0]!r}, one block, which cannot be "
                "cut: name the layers to train as `top`, or train the head alone or the whole network"
            )
        sizes = [len(level.shown) for level in levels]
        third = max(sum(sizes) // 3, 1)
        start = min(range(1, len(levels)), key=lambda place: abs(sum(sizes[place:]) - third))
        return merged(levels[start:]).mask(tree)

    def __repr__(self) -> str:
        return f"<last third of the layers without {self._head!r}>"
