"""Every page is in the site, every public name has one, and links lead to what is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from public_names import PACKAGES, public_names, room_text, rooms_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = ("_build", "_ext", "api", "examples")  # of the sources, or no pages
PAGES = sorted(
    path
    for path in [*DOCS.rglob("*.md"), *DOCS.glob("*/*.py")]
    if path.relative_to(DOCS).parts[0] not in MADE
)


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = re.findall(r"^([\w/]+)$", (DOCS / "index.md").read_text(), flags=re.MULTILINE)
    found = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES} - {"index"}
    assert found <= set(listed)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_a_page(package: str) -> None:
    publics = public_names(package)
    assert [public.name for public in publics] == sorted(
        importlib.import_module(f"gradloop.{package}").__all__, key=str.lower
    )
    assert sum(map(len, rooms_of(package).values())) == len(publics)
    for room in rooms_of(package):
        title, text = room_text(package, room)
        assert title.startswith(room) and text.endswith("."), room


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    linked = [page.parent / link for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)]
    named = [ROOT / name for name in re.findall(r"`(?:\./)?((?:scripts|tests|docs)/[\w/]+\.\w+)", text)]
    made = [DOCS / folder for folder in MADE]
    missing = [path.resolve() for path in [*linked, *named] if not path.exists()]
    assert [path for path in missing if path.parent not in made] == []


@pytest.mark.parametrize(
    "guide", [path for path in PAGES if path.suffix == ".py"], ids=lambda path: path.name
)
def test_a_guide_is_a_notebook_and_a_script(guide: Path) -> None:
    text = guide.read_text()
    assert text.startswith("# %% [markdown]\n# # ")
    compile(text, str(guide), "exec")
    for name in re.findall(r"\{py:\w+\}`~?gradloop\.(\w+)\.(\w+)", text):
        assert name in {(package, public.name) for package in PACKAGES for public in public_names(package)}


def test_options_that_pages_show_are_options() -> None:
    """Of the programs in scripts/, in commands on one line."""
    sources = "".join(
        path.read_text() for path in [*ROOT.glob("scripts/**/*.py"), *ROOT.glob("scripts/*.sh")]
    )
    text = "".join(path.read_text() for path in [ROOT / "README.md", *PAGES])
    commands = re.findall(r"scripts/\w[\w/]*\.(?:py|sh) [^|`\n]*", text)
    used = {option for command in commands for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", command)}
    assert len(used) > 5 and [option for option in sorted(used) if option not in sources] == []
