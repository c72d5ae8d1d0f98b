"""The role of text in single backticks: code, which links to its page where it is a public name."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from public_names import PACKAGES, public_names

NAMES = {
    f"{public.package}.{public.name}": public for package in PACKAGES for public in public_names(package)
}
# Names that need no package before them: no argument is called so.
ALONE = {key.partition(".")[2]: public for key, public in NAMES.items() if re.search("[A-Z_]", key)}


def code_or_name(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    literal = nodes.literal(rawtext, text, classes=["code"])
    public = NAMES.get(text.removeprefix("gradloop.")) or ALONE.get(text)
    if public is None:
        return [literal], []
    target = f"gradloop.{public.package}.{public.name}"
    literal["classes"] = ["xref", "py", "py-obj"]
    reference = addnodes.pending_xref(
        rawtext, literal, refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=True
    )
    return [reference], []


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("code-or-name", code_or_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
