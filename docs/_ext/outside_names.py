"""Names of other packages: that they exist is checked, and those of TensorFlow and Keras are links.

Their pages have the address that the name says, so no inventory of them is needed.
"""

from __future__ import annotations

import importlib
import pydoc
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

REFERENCE = "https://www.tensorflow.org/api_docs/python/tf/"
SHORT = {"tf": "tensorflow", "np": "numpy"}


def resolve(app: Sphinx, env: Any, node: Any, contnode: nodes.Element) -> nodes.Element | None:
    """The text alone where the name exists, in a link where its page is known; None where it does not."""
    if node.get("refdomain") != "py":
        return None
    target: str = node["reftarget"].partition("[")[0]
    first, _, rest = target.partition(".")
    package = SHORT.get(first, first)
    if package == "gradloop" or pydoc.locate(f"{package}.{rest}" if rest else package) is None:
        return None
    page = {"tensorflow": rest, "keras": f"keras.{rest}"}.get(package)
    if page is None or ".src." in target or not rest:
        return contnode
    uri = REFERENCE + page.replace(".", "/")
    return nodes.reference("", "", contnode, internal=False, refuri=uri)


def setup(app: Sphinx) -> dict[str, bool]:
    importlib.import_module("tensorflow")  # once, before the pages are shared out to processes
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
