"""Where a plain string is found in names: at words, not inside of them.

A substring would find "head" in `multi_head_attention`, "block1" in `block10` and "dense" in `densenet121`,
and train what nobody asked for. So in a name of words, which `/`, `_`, numbers and capital letters set apart:

- the text begins with a word, and may end within one: "conv" is in `conv1`, `block1_conv2` and
  `separable_conv2d`, "norm" in `layer_normalization`;
- it cuts no number in two ("block1" is not in `block10_conv`, "conv2" not in `conv2d_1`), and no name of a
  network ("dense" is not in `densenet121`, "conv" not in `convnext_tiny`);
- where a class is called so, it may also be the end of a word: "conv" is in the name `sepconv1` of a
  `SeparableConv2D`, "norm" in that of a layer normalization called `layernorm`;
- in the name of a layer whose class has the text in the middle (`MultiHeadAttention`), it is found at the
  beginning alone: such words say how the layer works, not what it is;
- what Keras' own layers call their parts (`multi_head_attention/output_dense`) is searched only if no other
  name has the text: "output" is a layer of the model, where there is one of that name.
"""

from __future__ import annotations

import re

import keras

from ..naming.model_tree import ModelTree
from ..private.keras_private import automatic_name


def plain_text_mask(text: str, tree: ModelTree, *, keras_names: bool = False) -> list[bool]:
    """For each variable, whether the text is in its stable name, or in its name by Keras' layer names."""
    nodes = {id(node.layer): node for node in tree.nodes}
    at_words, at_ends = _at_words(text), _at_ends(text)
    found: list[bool | None] = []
    for name, owner in zip(tree.keras_names if keras_names else tree.names, tree.owner_nodes):
        chain = [nodes[id(layer)] for layer in (*owner.ancestors, owner.layer) if id(layer) in nodes]
        ends = [len(node.keras_path if keras_names else node.path) for node in chain]
        places = []
        for begins_word, regex in ((True, at_words), (False, at_ends)):
            for start in (hit.start() for hit in regex.finditer(name)):
                # The layer whose part of the name this is, and those inside it; none in the variable's part.
                inward = [node.layer for node, end in zip(chain, ends) if start < end]
                if begins_word:
                    begins_part = start == 0 or name[start - 1] == "/"
                    counts = begins_part or not inward or not _in_the_middle(text, inward[0])
                else:
                    counts = any(_called(text, layer) for layer in inward)
                if counts:
                    around = chain[: len(chain) - len(inward)][-1:] if inward else []
                    places.append(any(_is_keras_own(node.layer) for node in around))
        found.append(min(places) if places else None)  # True: only in what a layer of Keras calls its parts
    best = False if False in found else True
    return [place is best for place in found]


def _at_words(text: str) -> re.Pattern[str]:
    first, last = text[0], text[-1]
    left = r"(?<!\d)" if first.isdigit() else r"(?<![^\W\d_])" if first.isalpha() else ""
    if first.isupper():
        left = rf"(?:{left}|(?<=[a-z]))"
    right = ""
    if last.isdigit():
        right = r"(?!\d|[dD](?![^\W\d_]))"
    elif last.isalpha():  # networks are called so: ConvNet, DenseNet, MobileNet, ResNet, ConvNeXt, ResNeXt
        right = r"(?!(?i:nex?t))"
    return re.compile(left + re.escape(text) + right)


def _at_ends(text: str) -> re.Pattern[str]:
    if not text.isalpha():
        return re.compile(r"(?!)")  # matches nothing
    return re.compile(rf"(?<=[^\W\d_]){re.escape(text)}(?![^\W\d_])")


def _called(text: str, layer: keras.layers.Layer) -> bool:
    """Whether the class is called so: its name, or the last word of it, begins with the text."""
    name = automatic_name(type(layer))
    return name.startswith(text) or name.rpartition("_")[2].startswith(text)


def _in_the_middle(text: str, layer: keras.layers.Layer) -> bool:
    middle = automatic_name(type(layer)).split("_")[1:-1]
    return text in "_".join(middle) and not _called(text, layer)


def _is_keras_own(layer: keras.layers.Layer) -> bool:
    return type(layer).__module__.startswith("keras.") and not isinstance(layer, keras.Model)
