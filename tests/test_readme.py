"""Links and commands in the README lead somewhere. (Its code runs in `tests/docs`.)"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_files_and_commands_exist() -> None:
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    named = re.findall(r"(?:\./)?(scripts/[\w/]+\.(?:py|sh))", README)
    assert {"docs/quickstart.png", "scripts/quickstart.sh"} <= {*linked, *named}
    missing = [path for path in {*linked, *named} if not (ROOT / path).exists()]
    assert not missing


def test_options_shown_are_options() -> None:
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) - {"--help", "--logdir", "--ntasks"}
    names = ("train_lenet.py", "launch.py", "finetune.py", "predict.py", "shared/lenet_options.py")
    source = "".join(Path(ROOT, "scripts", name).read_text() for name in names)
    assert [option for option in sorted(used) if f'"{option}"' not in source] == []
