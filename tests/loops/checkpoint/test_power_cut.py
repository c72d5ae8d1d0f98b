"""What reaches the disk, in which order, as the operating system sees it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAVES = Path(__file__).parent / "programs" / "saves.py"
REMOVALS = {"unlink", "unlinkat", "rmdir"}
CALL = re.compile(r"\d+ +(\w+)\((.*)\) = \d+(?:<(.*)>)?$")


def seen(folder):
    """(call, file) for each write, sync, rename and removal of a file in the folder or of itself."""
    trace = folder.parent / "trace"
    names = "write,pwrite64,writev,fsync,rename,renameat,renameat2,unlink,unlinkat,rmdir"
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-s", "0", "-o", trace, "-e", f"trace={names}"]
    done = subprocess.run([*strace, sys.executable, SAVES, folder], capture_output=True, text=True)
    if "ptrace" in done.stderr:
        pytest.skip(f"no process may be traced here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    # A call that another thread interrupts is on two lines.
    begun, calls = {}, []
    for line in trace.read_text().splitlines():
        thread = line.split()[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
            continue
        if "resumed>" in line:
            line = begun.pop(thread) + line.partition("resumed>")[2]
        found = CALL.match(re.sub(r"\) +=", ") =", line))
        if found and str(folder) in line:
            paths = re.findall(rf"{re.escape(str(folder))}[^\">,]*", found[2])
            calls.append((found[1], *(os.path.relpath(path, folder) for path in paths)))
    return calls


@pytest.mark.release
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_all_is_on_the_disk_before_the_manifest_has_its_name(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    calls = seen(folder)
    for place, parts in (("checkpoint-1", 1), ("checkpoint-2", 3)):
        own = [call for call in calls if call[1].startswith(place)]
        data = [f"state.data-{number:05}-of-{parts:05}" for number in range(parts)]
        files = ["iterator.data-00000-of-00001", "iterator.index", *data, "state.index"]
        # A part is synced before it has its last name.
        before = {name: f"state_temp/part-{number}.data-00000-of-00001" for number, name in enumerate(data)}
        last = next(
            number for number, call in enumerate(own) if call == ("write", f"{place}/manifest.json.part")
        )
        for name in files:
            names = {f"{place}/{name}", f"{place}/{before.get(name, name)}"}
            its = [call[0] for call in own[:last] if names & {call[-1]}]
            assert its.count("fsync") == 1 and "write" not in its[its.index("fsync") :], (name, its)
        named = [number for number, call in enumerate(own) if call[0].startswith("rename")][:-1]
        assert max(named) < last, "TensorFlow has named all its files; then comes what speaks of them"
        part, whole = f"{place}/manifest.json.part", f"{place}/manifest.json"
        end = own[last:][:5]
        assert [call[0] for call in end] == ["write", "fsync", "fsync", "rename", "fsync"]
        assert [call[1:] for call in end] == [(part,), (part,), (place,), (part, whole), (place,)]
    # The folder knows of the newer one before the older one goes, its manifest first.
    removals = [
        number for number, call in enumerate(calls) if call[:2] == ("unlink", "checkpoint-1/manifest.json")
    ]
    assert calls[removals[0] - 1] == ("fsync", ".")
    assert {call[0] for call in calls[removals[0] :]} <= REMOVALS
