"""How long a user waits before anything runs: the import, and the scripts' help."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

from . import child
from .figures import verdict

IMPORT_LIMIT_S = 0.1

# Within one process, so that TensorFlow's own import, seconds long and uneven, cancels out.
IMPORT = """
import json, time
start = time.perf_counter()
import tensorflow
middle = time.perf_counter()
import gradloop.optim
end = time.perf_counter()
print(json.dumps({"tensorflow_s": middle - start, "optim_s": end - middle}))
"""
HELP = """
import contextlib, io, json, os, runpy, sys, time
path = sys.argv[1]
sys.argv = [path, "--help"]
sys.path.insert(0, os.path.dirname(path))
start = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit:
        pass
taken = time.perf_counter() - start
print(json.dumps({"help_s": taken, "imports_tensorflow": "tensorflow" in sys.modules}))
"""


@dataclasses.dataclass(frozen=True)
class Startup:
    """Median seconds before anything runs."""

    tensorflow_s: float  # of `import tensorflow`
    optim_s: float  # that `import gradloop.optim` takes after it
    help_s: dict[str, float]  # to the help text, by script; the interpreter's own start not counted
    help_imports_tensorflow: dict[str, bool]  # by script

    def lines(self) -> list[str]:
        """The findings, one a line, with met or missed."""
        word = verdict(self.optim_s, IMPORT_LIMIT_S, at_most=True)
        found = [
            f"import gradloop.optim adds {self.optim_s:.3f} s to TensorFlow's "
            f"{self.tensorflow_s:.2f} s (wanted: less than {IMPORT_LIMIT_S} s): {word}"
        ]
        for script, seconds in self.help_s.items():
            imports = self.help_imports_tensorflow[script]
            found.append(
                f"{script} --help answers in {seconds:.2f} s, "
                + ("AFTER IMPORTING TENSORFLOW: missed" if imports else "without TensorFlow: met")
            )
        return found


def programs(folder: Path) -> list[Path]:
    """The scripts in a folder that a user runs; modules that only they import are passed over."""
    mark = 'if __name__ == "__main__":'
    return [path for path in sorted(folder.glob("*.py")) if mark in path.read_text()]


def measure(python: str, scripts: Sequence[Path], repeats: int = 3) -> Startup:
    """Times imports and help texts in fresh processes, `repeats` of each kind, and takes medians.

    One more process imports first, untimed, to bring the files into memory. For errors see `child.answer`.
    """
    imports = [child.answer(child.start(python, "-c", IMPORT)) for _ in range(repeats + 1)][1:]
    helps = {
        script.name: [child.answer(child.start(python, "-c", HELP, str(script))) for _ in range(repeats)]
        for script in scripts
    }
    return Startup(
        tensorflow_s=statistics.median(one["tensorflow_s"] for one in imports),
        optim_s=statistics.median(one["optim_s"] for one in imports),
        help_s={name: statistics.median(one["help_s"] for one in found) for name, found in helps.items()},
        help_imports_tensorflow={
            name: any(one["imports_tensorflow"] for one in found) for name, found in helps.items()
        },
    )
