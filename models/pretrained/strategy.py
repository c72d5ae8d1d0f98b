"""Which part of a pretrained network to train, by how much data there is and how similar it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...optim import Filter, FilterLike, Group
from ...optim.common.arguments import whole_number
from ...optim.filters.base import as_filter
from ...optim.naming.model_tree import ModelTree

# In transfer learning, data sets of fewer than a few thousand images usually count as small.
FEW = 5_000
# The learning rate of pretrained layers, as a multiple of that of the head, which starts from nothing.
_PRETRAINED = 0.1

_WORDS = {
    "head": "train the head alone",
    "top": "train the head and the top of the backbone",
    "all": "train the whole network",
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
        """One of the three strategies by name, whatever the data; `head` and `top` are as for `recommend`.

        Raises:
            ValueError: another name.
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
    """Recommends what to train of a pretrained network with a new head.

    | | similar to what it was trained on | not similar |
    |---|---|---|
    | fewer than 5,000 examples | head alone | head and top of the backbone |
    | more | head and top of the backbone | whole network |

    Pretrained layers that train have a tenth of the head's rate, except where the whole network is to learn
    something else.

    Args:
        examples: how many there are to train on.
        similar: whether they are like the data that the network was trained on (photographs of things, for
            ImageNet).
        head: the filter that finds the new layers; those of `classifier` have names with `head`.
        top: the filter that finds the top of the backbone; None for the last third of its layers that have
            variables.

    Returns:
        A mapping for `optim.partition`, in which what does not train is a frozen group.

    Raises:
        ValueError: no examples.
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
    if not isinstance(similar, bool):
        raise TypeError(f"`similar` must be True or False, not {similar!r}.")
    few = examples < FEW
    amount = f"{examples:,} examples are {'few' if few else 'many'}"
    if few and similar:
        name, reason = "head", "and its features fit them as they are."
    elif few:
        name, reason = (
            "top",
            "so its general first features stay; the last do not fit data that is not similar.",
        )
    elif similar:
        name, reason = "top", "enough to adapt its last features; the first fit similar data as they are."
    else:
        name, reason = "all", "enough to learn features for data that is not similar."
    return Strategy(name, f"{amount}, {reason}", _groups(name, as_filter(head), top))


def _groups(name: str, head: Filter, top: FilterLike | None) -> dict[str, Group]:
    if name == "head":
        return {"backbone": Group(~head, frozen=True), "head": Group(head)}
    if name == "all":
        return {"backbone": Group(~head), "head": Group(head)}
    upper = (_LastThird(head) if top is None else as_filter(top)) & ~head
    return {
        "bottom": Group(~(head | upper), frozen=True),
        "top": Group(upper, lr_scale=_PRETRAINED),
        "head": Group(head),
    }


class _LastThird(Filter):
    """Variables of the last third of the layers that have trainable ones, those of the head aside."""

    def __init__(self, head: Filter) -> None:
        self._head = head

    def mask(self, tree: ModelTree) -> list[bool]:
        candidates = [
            trains and not in_head for trains, in_head in zip(tree.trainable_mask(), self._head.mask(tree))
        ]
        positions = [owner.position for owner in tree.owner_nodes]
        layers = sorted({position for position, wanted in zip(positions, candidates) if wanted})
        last = set(layers[-(len(layers) // 3) :]) if len(layers) > 2 else set(layers)
        return [wanted and position in last for position, wanted in zip(positions, candidates)]

    def __repr__(self) -> str:
        return f"<last third of the layers without {self._head!r}>"
