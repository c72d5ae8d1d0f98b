"""Writes docs/api: a page for each public name, and one for each package that lists them by room."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.inspect import signature as sphinx_signature
from sphinx.util.inspect import stringify_signature

from public_names import PACKAGES, Public, public_names, room_text, rooms_of


def titled(title: str, line: str = "=") -> str:
    return f"{title}\n{line * len(title)}\n\n"


def page_of(public: Public, value: object) -> str:
    """The page of one name."""
    module = f"gradloop.{public.package}"
    text = titled(public.name) + f".. currentmodule:: {module}\n\n"
    if inspect.isclass(value):
        # Of bases that are not public, members are the class's own; a `StepsCallback` has a page.
        options = ":members:", ":inherited-members: StepsCallback", ":special-members: __call__"
        return text + f".. autoclass:: {public.name}\n   " + "\n   ".join(options) + "\n"
    if inspect.isfunction(value):
        return text + f".. autofunction:: {public.name}\n"
    return text + f".. autodata:: {public.name}\n   :no-value:\n\n" + indent(comment_of(public), "   ")


def comment_of(public: Public) -> str:
    """The `#:` comment above a name in its room; Sphinx looks for it in the package alone."""
    room = f"gradloop.{public.package}.{public.room}."
    for module in sorted(name for name in sys.modules if name.startswith(room)):
        found = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", public.name))
        if found:
            return "\n".join(found)
    return ""


def page_of_package(package: str, doc: str) -> str:
    """The page that lists a package's names by room."""
    text = titled(f"gradloop.{package}") + f".. module:: gradloop.{package}\n\n{doc}\n\n"
    for room, publics in rooms_of(package).items():
        title, about = room_text(package, room)
        text += titled(title, "-") + about + "\n\n.. autosummary::\n\n"
        text += "".join(f"   {public.name}\n" for public in publics) + "\n"
    entries = "".join(f"   {Path(public.page).name}\n" for public in public_names(package))
    return text + ".. toctree::\n   :hidden:\n\n" + entries


def pages() -> dict[str, str]:
    """Each file in docs/ that is made, and what is in it."""
    made = {}
    for package in PACKAGES:
        module = importlib.import_module(f"gradloop.{package}")
        made[f"api/{package}.rst"] = page_of_package(package, inspect.getdoc(module) or "")
        for public in public_names(package):
            made[f"{public.page}.rst"] = page_of(public, getattr(module, public.name))
    return made


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir)
    made = pages()
    for old in (folder / "api").glob("*.rst"):
        if old.relative_to(folder).as_posix() not in made:
            old.unlink()
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:  # else the page would be built anew
            path.write_text(text)


def skip_what_is_not_ours(
    app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out what a class has from Keras or Python, and hooks that it overrides and does not document."""
    value = value.fget if isinstance(value, property) else value
    if what != "class" or not hasattr(value, "__qualname__"):
        return None
    if getattr(value, "__module__", None) is None:
        return True
    owner = getattr(sys.modules.get(value.__module__), value.__qualname__.partition(".")[0], None)
    bases = [base for base in getattr(owner, "__mro__", ()) if getattr(vars(base).get(name), "__doc__", None)]
    if bases and bases[0] is not owner and bases[0].__name__ == "StepsCallback":
        return True  # as `:inherited-members:` above
    return True if not (bases[0] if bases else value).__module__.startswith("gradloop") else None


def signature_of_init(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """The arguments of classes that Keras makes by a `__new__` of any arguments."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    return stringify_signature(sphinx_signature(value.__init__, bound_method=True), show_annotation=False), ""


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("autodoc-skip-member", skip_what_is_not_ours)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
