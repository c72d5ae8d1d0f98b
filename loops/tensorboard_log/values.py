"""Values of TensorBoard's plugins: texts, images, histograms and others that are not scalars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

# The value of one tag at one step, with metadata that tells TensorBoard how to show it.
Value: TypeAlias = tf.compat.v1.Summary.Value


def plugin_value(tag: str, plugin: str, tensor: object, content: bytes = b"", description: str = "") -> Value:
    """A value for a plugin of TensorBoard; `tensor` is anything that `tf.make_tensor_proto` takes.

    `content` is metadata for the plugin; the description, in Markdown, is shown with the tag.
    """
    value = Value(tag=tag, tensor=tf.make_tensor_proto(tensor))
    value.metadata.plugin_data.plugin_name = plugin
    value.metadata.plugin_data.content = content
    value.metadata.summary_description = description
    return value


def text_value(tag: str, markdown: str) -> Value:
    """A text, in Markdown, for the tab Text."""
    # A command line whose bytes are not UTF-8 has characters that cannot be encoded.
    return plugin_value(tag, "text", markdown.encode(errors="backslashreplace"))


def image_value(tag: str, pngs: Sequence[bytes], width: int, height: int, description: str) -> Value:
    """Pictures of one size, in PNG, for the tab Images."""
    return plugin_value(tag, "images", [b"%d" % width, b"%d" % height, *pngs], description=description)
