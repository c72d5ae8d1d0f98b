"""The code in the README runs, top to bottom, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.release  # of each thing that it shows, a docstring has a smaller example
def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it writes files
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, Any] = {}
    for block in blocks:
        # A file name makes tracebacks point at the README.
        exec(compile(block, "README.md", "exec"), names)
    assert float(names["logs"]["loss"]) > 0
    assert len(names["history"].history["val_loss"]) >= 1
    assert set(names["result"]) == {"loss"}


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
