"""`--help` of every script: at once, without TensorFlow, and true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import finetune
from bench import startup

SCRIPTS = Path(finetune.__file__).parent
# A script, and something that its help says.
SAYS = {
    "benchmark": "x_train, y_train for the part steps; the others make their own",
    "compare_finetuning": "--ways",
    "compare_optimizers": "adadelta=1, rmsprop=0.001",
    "find_lr": "--lowest",
    "finetune": "the same seed gives the same run on the CPU",  # on a GPU, sums have no fixed order
    "launch": "--parameter-servers",
    "own_loop": "--strategy",
    "predict": "--grid",
    "train_lenet": "--train-only",
}


def test_no_script_is_forgotten() -> None:
    assert [path.stem for path in startup.programs(SCRIPTS)] == sorted(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_help_needs_no_tensorflow(name: str) -> None:
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        f"try: runpy.run_path({str(SCRIPTS / name)!r} + '.py', run_name='__main__')\n"
        "finally: assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in " ".join(done.stdout.split())
