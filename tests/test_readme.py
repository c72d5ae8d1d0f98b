"""Links and commands in the README lead somewhere. (Its code runs in `tests/docs`.)"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_files_and_commands_exist() -> None:
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    named = re.findall(r"(?:\./)?(scripts/[\w/]+\.(?:py|sh))", README)
    assert {"docs/tensorboard.png", "scripts/quickstart.sh", "scripts/docs.sh"} <= {*linked, *named}
    missing = [path for path in {*linked, *named} if not (ROOT / path).exists()]
    assert not missing


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 120
