"""How text finds variables: plain strings, globs and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..common.messages import did_you_mean, first_few
from ..naming.model_tree import ModelTree
from .words import plain_text_mask


class SelectionError(ValueError):
    """A filter that selects nothing, or that does not say clearly what it selects.

    The message names the filter and the model and, for text, names that are similar.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")], name="net")
        >>> try:
        ...     chosen = select(model, "haed")
        ... except SelectionError as error:
        ...     print(error)
        name('haed') matches none of the 2 variables of model 'net'. Did you mean 'head'? ...
    """


def glob_regex(pattern: str) -> re.Pattern[str]:
    """A shell pattern as a regex that is searched in a name.

    It matches any run of whole path components. `*` stands for anything, also across `/`; `?` for
    one character and `[abc]`, `[a-z]`, `[!a]` for one of a set, neither of them `/`.

    Example:
        >>> bool(glob_regex("block5*").search("vgg16/block5_conv2/kernel"))
        True
        >>> bool(glob_regex("conv?").search("conv10/kernel"))
        False
    """
    body, rest = "", pattern
    while rest:
        bracket = re.match(r"\[(!?)(\][^\]]*|[^\]]+)\]", rest)
        if rest[0] == "*":
            rest = rest.lstrip("*")
            body += ".*"
        elif rest[0] == "?":
            rest = rest[1:]
            body += "[^/]"
        elif bracket:
            rest = rest[bracket.end() :]
            members = re.sub(r"([\\\[\]^&|~])", r"\\\1", bracket.group(2))
            body += f"[^/{members}]" if bracket.group(1) else f"(?!/)[{members}]"
        else:
            body += re.escape(rest[0])
            rest = rest[1:]
    try:
        return re.compile(f"(?:^|/){body}(?:/|$)", re.DOTALL)
    except re.error as error:
        raise SelectionError(f"`pattern` {pattern!r} is not a valid glob: {error}") from error


def is_glob(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def text_mask(pattern: str | re.Pattern[str], tree: ModelTree, *, keras_names: bool = False) -> list[bool]:
    """For each variable, whether its stable name matches, or its name by Keras' layer names."""
    if isinstance(pattern, str) and not is_glob(pattern):
        return plain_text_mask(pattern, tree, keras_names=keras_names)
    regex = glob_regex(pattern) if isinstance(pattern, str) else pattern
    return [regex.search(name) is not None for name in (tree.keras_names if keras_names else tree.names)]


def unambiguous_mask(
    tree: ModelTree, asked: str, by_stable_names: list[bool], by_keras_names: list[bool]
) -> list[bool]:
    """The mask of a text in a model whose layers have other names in Keras than the stable ones.

    It is the one of the two masks that matches something; SelectionError, which names the filter as `asked`,
    if both do, and not the same.
    """
    if not any(by_keras_names) or by_stable_names == by_keras_names:
        return by_stable_names
    if not any(by_stable_names):
        return by_keras_names
    raise ambiguous(asked, tree, _listed(tree, by_stable_names), _listed(tree, by_keras_names))


def ambiguous(asked: str, tree: ModelTree, by_stable_names: str, by_keras_names: str) -> SelectionError:
    """The error for a name that means one thing among stable names, and another among Keras' names."""
    return SelectionError(
        f"{asked} means two things in model {tree.model.name!r}. By stable names, which are the same in "
        f"every process: {by_stable_names}. By the names that Keras gave in this process: {by_keras_names}. "
        "Pass the layer itself (`optim.layers(model.get_layer(...))`), or give your layers names that do not "
        "look like Keras' own counting (`name='head'`)"
    )


def _listed(tree: ModelTree, mask: Sequence[bool]) -> str:
    found = [
        info.name if info.name == keras_name else f"{info.name} (Keras: {keras_name})"
        for info, keras_name, hit in zip(tree.infos, tree.keras_names, mask)
        if hit
    ]
    return first_few(found)


def near_misses(asked: str, candidates: Iterable[str]) -> str:
    """A hint with up to five of `candidates` that resemble `asked`, or an empty string.

    Example:
        >>> near_misses("CONV1", ["conv1", "fc1"])
        ' Only the case differs from: conv1.'
        >>> near_misses("cnov1", ["conv1", "head"])
        " Did you mean 'conv1'?"
    """
    candidates = list(dict.fromkeys(candidates))
    within = [] if is_glob(asked) else [name for name in candidates if asked in name]
    if within:
        return (
            f" It is within words, where text is not searched: {first_few(within)}; write {f'*{asked}*'!r}."
        )
    folded = asked.casefold()
    regex = glob_regex(folded) if is_glob(asked) else re.compile(re.escape(folded))
    same = [name for name in candidates if regex.search(name.casefold())]
    if same:
        return f" Only the case differs from: {first_few(same)}."
    plain = re.sub(r"[*?\[\]!^$.\\]", "", asked)
    return did_you_mean(plain, candidates, most=5)


def layer_names(tree: ModelTree) -> list[str]:
    """Every name that a layer may be asked for by: its path, and the last component of it."""
    paths = [node.path for node in tree.nodes]
    return [*(path.rsplit("/", 1)[-1] for path in paths), *paths]
