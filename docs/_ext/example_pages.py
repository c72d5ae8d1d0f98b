"""Writes docs/examples: a page for each program in scripts/examples, from its docstring, with its source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from sphinx.application import Sphinx

from public_names import ROOT

INTRODUCTION = """# Examples

Whole programs to copy. Each is one file that reads top to bottom and needs gradloop and public packages
alone. Its data are in a package or made on the spot, so nothing is downloaded.

"""


def pages() -> dict[str, str]:
    """Each file in docs/ that is made, and what is in it."""
    made, rows, entries = {}, "", ""
    for path in sorted((ROOT / "scripts" / "examples").glob("*.py")):
        tree = ast.parse(path.read_text())
        doc = ast.get_docstring(tree)
        assert doc, f"{path} has no docstring"
        first, _, rest = doc.partition("\n\n")
        first = " ".join(first.split())
        title = re.split("[:,.]", first)[0]
        end = tree.body[0].end_lineno or 0  # of the docstring
        place = path.relative_to(ROOT).as_posix()
        made[f"examples/{path.stem}.md"] = (
            f"# {title}\n\n{first}\n\n{rest}\n\n"
            f"This is `{place}`; `--help` lists its options.\n\n"
            f"```{{literalinclude}} ../../{place}\n:language: python\n:lines: {end + 2}-\n```\n"
        )
        rows += f"[{title}]({path.stem}.md)\n: {first}\n\n"
        entries += f"{path.stem}\n"
    made["examples/index.md"] = f"{INTRODUCTION}{rows}```{{toctree}}\n:hidden:\n\n{entries}```\n"
    return made


def write_pages(app: Sphinx) -> None:
    for name, text in pages().items():
        path = Path(app.srcdir) / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
