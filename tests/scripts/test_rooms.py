"""Which folder of the scripts may import which: the examples' own rule is in their tests."""

import ast
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROGRAMS = {path.stem for path in SCRIPTS.glob("*.py")}
FORBIDDEN = {"shared": PROGRAMS | {"bench", "examples"}, "bench": PROGRAMS | {"examples"}}


def imported(file):
    """The first part of every absolute import, those within functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_folder_imports_no_program(folder):
    found = {file.name: set(imported(file)) & FORBIDDEN[folder] for file in (SCRIPTS / folder).glob("*.py")}
    assert len(found) > 5 and not any(found.values()), found


def test_programs_import_no_other_program():
    for file in SCRIPTS.glob("*.py"):
        assert not set(imported(file)) & (PROGRAMS | {"examples"}), file.name
