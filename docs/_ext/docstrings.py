"""Docstrings to reStructuredText: Google's sections by Napoleon, and before that what is Markdown in them.

Our sections hold sentences, where Napoleon looks for a type before each colon; so `Returns:` and
`Attributes:` become fields here. An indented block in the text is code.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python._object import PyObject
from sphinx.ext.napoleon.docstring import GoogleDocstring

SECTION = re.compile(r"(Args|Attributes|Example|Examples|Note|Raises|Reference|References|Returns|Yields):$")
NAMES = re.compile(r"    (\w+(?:, \w+)*): (.*)")


def prepared(lines: list[str]) -> list[str]:
    """A docstring in Google's style that Napoleon and docutils read as it was meant."""
    made: list[str] = []
    section, block = "", False
    for number, line in enumerate(lines):
        if SECTION.match(line):
            section, block = line[:-1], False
            if section in ("Returns", "Attributes"):
                made += [""]
                continue
        elif line and not line.startswith(" "):
            section = ""
        if section == "Attributes" and (found := NAMES.match(line)):
            names, text = found[1].split(", "), found[2]
            # Each of several has the text: as a rule it is "as given".
            made += [f":ivar {name}: {text}" for name in names]
        elif section == "Returns" and lines[number - 1] == "Returns:":
            made.append(f":returns: {line.strip()}")
        elif section == "" and line.startswith("    "):
            if not block:
                made += ["", ".. code-block:: text", ""]
            block = True
            made.append(f"    {line}")
        else:
            if block and line:
                block = False
                made += [""]
            made.append(line)
    return made


def convert(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    # As of a function, since of a property Napoleon takes all before a colon for its type.
    lines[:] = GoogleDocstring(prepared(lines), None, None, "function", name, value, options).lines()


def setup(app: Sphinx) -> dict[str, bool]:
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # they are no `tf.Variable`
    app.connect("autodoc-process-docstring", convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
