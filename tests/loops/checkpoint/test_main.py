"""`python -m gradloop.loops.checkpoint`: the table, what it verifies, and what differs."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.checkpoint.__main__ import main
from gradloop.loops.checkpoint.directory import CheckpointFolder
from gradloop.loops.checkpoint.tensor_file import TensorFile, in_memory
from gradloop.loops.checkpoint.whole import write_checkpoint
from tests.test_older_files import HERE


def shown(capsys, *arguments):
    """What it prints, and its exit status."""
    status = main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines(), status


def test_the_table_of_a_run(kept, capsys):
    lines, status = shown(capsys, kept)
    assert status == 0 and lines[0].split() == "checkpoint step epoch date (UTC) size state metrics".split()
    loss = TensorFile(str(kept / "checkpoint-2" / "state")).metadata["run"]["history"]["loss"]
    for line, number, value in zip(lines[1:], (1, 2), loss, strict=True):
        size = sum(path.stat().st_size for path in (kept / f"checkpoint-{number}").glob("state*"))
        wanted = rf"checkpoint-{number} +{3 * number} +{number} +20\S+ \d\d:\d\d:\d\d +{size / 1000:.3g} kB +"
        assert re.fullmatch(wanted + "whole +" + re.escape(f"loss={value:.6g}"), line)


def test_damage_is_found(kept, capsys):
    for number in (3, 4):
        shutil.copytree(kept / "checkpoint-2", kept / f"checkpoint-{number}")
    (kept / "checkpoint-3" / "manifest.json").unlink()
    shutil.copytree(HERE / "checkpoints" / "saved" / "checkpoint-1", kept / "checkpoint-5")
    assert shown(capsys, kept, "--verify")[1] == 0
    data = kept / "checkpoint-2" / "state.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(b"!" + content[1:])
    (kept / "checkpoint-4" / "state.index").write_bytes(b"")
    old = kept / "checkpoint-5" / "state.data-00000-of-00001"
    old.write_bytes(old.read_bytes()[:-1] + b"!")
    index = (data.parent / "state.index").stat().st_size
    lines, status = shown(capsys, kept)
    states = [re.search("whole|damaged|unfinished", line)[0] for line in lines[1:6]]
    assert (status, states) == (0, ["whole", "whole", "unfinished", "damaged", "whole"])
    lines, status = shown(capsys, kept, "--verify")
    states = [re.search("whole|damaged|unfinished", line)[0] for line in lines[1:6]]
    assert (status, states) == (1, ["whole", "damaged", "unfinished", "damaged", "damaged"])
    assert lines[6:8] == [
        "checkpoint-2 is damaged: state.data-00000-of-00001 is not what was written (by its SHA-256)",
        f"checkpoint-4 is damaged: state.index has 0 bytes instead of {index}",
    ]
    assert lines[8].startswith("checkpoint-5 is damaged: state cannot be read (")


def test_what_differs(tmp_path, capsys):
    folder = CheckpointFolder(str(tmp_path))
    same = {"count": np.array(3), "none": np.zeros((0, 2), "float32"), "nan": np.array(np.nan)}
    kernel = np.arange(6, dtype="float32").reshape(2, 3)
    one = same | {
        "kernel": kernel,
        "bias": np.zeros(2),
        "gone": np.zeros(4),
        "on": np.array(True),
        "wide": kernel,
    }
    other = same | {
        "kernel": kernel + [[0, 0, -0.5], [0, 0.25, 0]],
        "bias": np.array([np.nan, 9]),
        "new": np.ones(1),
    }
    other = other | {"kernel": other["kernel"].astype("float32"), "on": np.array(False), "wide": kernel.T}
    for values in (one, other):
        write_checkpoint(folder.make_next(), in_memory(values), {})
    lines, status = shown(capsys, tmp_path, "--diff", "1", tmp_path / "checkpoint-2")
    assert (
        status == 0
        and [line.split("  ") for line in lines]
        and lines
        == [
            f"only in {tmp_path}/checkpoint-1: gone (4,)",
            f"only in {tmp_path}/checkpoint-2: new (1,)",
            "wide: float32 (2, 3) and float32 (3, 2)",
            "name    shape   largest change",
            "bias    (2,)               nan",
            "on      ()                   1",
            "kernel  (2, 3)             0.5",
            "3 of 9 values are the same.",
        ]
    )
    assert shown(capsys, tmp_path, "--diff", "checkpoint-1", "1")[0] == ["8 of 8 values are the same."]


def test_bad_arguments(kept, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([tmp_path / "none"], "FOLDER: there is no folder '.*none'"),
        ([tmp_path / "empty"], "FOLDER: '.*empty' holds no checkpoints"),
        (
            [kept / "checkpoint-1"],
            "FOLDER: '.*checkpoint-1' is one checkpoint: name the folder that it is in",
        ),
        (
            [kept, "--diff", "1", "7"],
            "--diff: there is no checkpoint '7', neither in '.*kept' nor by that path",
        ),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert ended.value.code == 2 and re.search(message, capsys.readouterr().err)
    (kept / "checkpoint-1" / "manifest.json").write_text("{}")
    with pytest.raises(SystemExit):
        main([str(kept), "--diff", "1", "2"])
    assert "checkpoint-1' is damaged: manifest.json is not what was written" in capsys.readouterr().err
    (kept / "checkpoint-2" / "state.index").unlink()
    with pytest.raises(SystemExit):
        main([str(kept), "--diff", "2", "2"])
    assert "checkpoint-2' is damaged: state.index cannot be read" in capsys.readouterr().err


@pytest.mark.release
def test_it_runs_as_a_command(kept):
    command = [sys.executable, "-m", "gradloop.loops.checkpoint", kept, "--verify"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr
    read, write = os.pipe()
    os.close(read)  # as `| head` does
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
    assert loops.Checkpoint(kept).newest == str(kept / "checkpoint-2")
