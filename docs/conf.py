"""Settings of the site: `scripts/docs.sh` builds it."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

# Guides run in processes of their own, which inherit these.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # of tqdm: pages have no widgets
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same numbers in the pages on every processor

project = "gradloop"
author = "the gradloop authors"
version = release = installed_version("gradloop")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
    # ours, in docs/_ext
    "api_pages",
    "code_role",
    "docstrings",
    "example_pages",
    "kernels",
    "notebooks",
    "outside_names",
]
exclude_patterns = ["_build", "_ext", "coming_from/code", "conf.py", "README.md"]

# Guides: Python files in jupytext's percent format, that run while the site is built.
nb_custom_formats = {".py": "notebooks.read"}
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # nothing is loaded from the network when the pages are read
only = os.environ.get("GRADLOOP_DOCS_ONLY")  # a page, such as guides/start.py: the others are not executed
if only is not None:
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.glob("*/*.py")]
    nb_execution_excludepatterns = [page for page in pages if page != only]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# API pages, from docstrings in Google's style. Text in single backticks is code, as in Markdown.
default_role = "code-or-name"
autosummary_generate = False
autodoc_typehints = "none"  # docstrings say in words what they take
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
nitpicky = True

smartquotes_action = "D"  # text in quotes is a value, to be typed as it stands

html_theme = "furo"
html_title = "gradloop"
html_static_path = ["_static"]
html_css_files = ["gradloop.css"]
html_show_sphinx = html_show_copyright = False
html_copy_source = False
