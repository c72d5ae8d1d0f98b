"""Guides: how they are executed, and each as the notebook that was executed while the site was built."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode
from sphinx.application import Sphinx

ROLE = re.compile(r"\{[\w:]+\}(`[^`]+`)")  # {py:func}`gradloop.loops.train`
GUIDE = re.compile(r"\]\((?!https?:)([\w/.]+)\.py([#)])")  # [rates](rates.py)

# For the processes that run guides. What C++ writes to the terminal stays there, and out of the pages; so do
# TensorFlow's notes of what it has done (it sets its own level when it is imported).
QUIET = 'import logging; logging.getLogger("tensorflow").addFilter(lambda record: record.levelno > 20)'
IPYTHON = f"""c = get_config()
c.InteractiveShellApp.exec_lines = [{QUIET!r}]
c.IPKernelApp.capture_fd_output = False
c.IPKernelApp.log_level = "ERROR"
c.HistoryManager.enabled = False
"""


def read(text: str) -> NotebookNode:
    """A guide as a notebook, which knows its language before it runs and the line of each cell."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    lines = enumerate(text.splitlines())
    notebook.metadata["source_map"] = [number for number, line in lines if line.startswith("# %%")]
    return notebook


def settle(app: Sphinx) -> None:
    """Settings of IPython; of each line that is drawn again, such as a progress bar, the last one counts."""
    profile = Path(app.outdir).parent / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(IPYTHON)
    os.environ["IPYTHONDIR"] = str(profile.parent)
    logging.getLogger("traitlets").setLevel(logging.WARNING)
    # MyST-NB does not pass this option on.
    init = functools.partialmethod(NotebookClient.__init__, coalesce_streams=True)
    NotebookClient.__init__ = init  # type: ignore[assignment,method-assign]  # see above


def is_notebook(app: Sphinx, page: str) -> bool:
    return str(app.env.doc2path(page)).endswith(".py")


def link(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """A line below the title of a guide's page."""
    if doctree is not None and is_notebook(app, page):
        name = page.rpartition("/")[2]
        line = f'<p class="notebook"><a href="{name}.ipynb" download>Download as a notebook</a></p>'
        context["body"] = context["body"].replace("</h1>", "</h1>" + line, 1)


def write(app: Sphinx, error: Exception | None) -> None:
    """Puts the executed notebooks beside the pages; what Jupyter does not know becomes plain Markdown."""
    if error is not None or app.builder.format != "html":
        return
    for page in app.env.found_docs:
        if is_notebook(app, page):
            executed = Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"
            notebook = json.loads(executed.read_text())
            for cell in notebook["cells"]:
                if cell["cell_type"] == "markdown":
                    text = ROLE.sub(r"\1", "".join(cell["source"]))
                    cell["source"] = GUIDE.sub(r"](\1.ipynb\2", text)
            Path(app.outdir, f"{page}.ipynb").write_text(json.dumps(notebook, indent=1))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", settle)
    app.connect("html-page-context", link)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
