"""The helpers of the scripts' command lines."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import command_line
from shared.command_line import assignment, check_writable, number, one_of, refusing, shown


def test_number_reads_what_is_within_bounds() -> None:
    whole = number(int, at_least=1)
    assert whole("3") == 3 and isinstance(whole("3"), int)
    assert number(float, above=0, below=1)("0.5") == 0.5


@pytest.mark.parametrize("text", ["0", "1", "x", "", "inf", "nan", "-1"])
def test_number_refuses_the_rest(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="wanted a number above 0 and below 1"):
        number(float, above=0, below=1)(text)


def test_one_of_ignores_case_and_suggests() -> None:
    parse = one_of(["adam", "sgd"])
    assert parse("Adam") == "adam"
    with pytest.raises(argparse.ArgumentTypeError, match=r"did you mean adam\? choose from adam"):
        parse("adm")
    with pytest.raises(argparse.ArgumentTypeError, match=r"q is unknown; choose from adam, sgd"):
        parse("q")


def test_assignment_reads_a_name_and_a_number() -> None:
    parse = assignment(["adam", "sgd"], number(float, above=0))
    assert parse("Adam=1e-3") == ("adam", 1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adam", "wanted NAME=NUMBER, got adam"),
        ("adm=1", "adm is unknown; did you mean adam"),
        ("adam=0", "wanted a number above 0, got 0"),
        ("adam=1=2", "wanted a number above 0, got 1=2"),
    ],
)
def test_assignment_refuses_the_rest(text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        assignment(["adam", "sgd"], number(float, above=0))(text)


def test_refusing_makes_one_line_of_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, refusing(KeyError, ValueError):
        raise ValueError("first\n  second")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: first second\n"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("`spec` 'gpu' is no strategy", "--strategy: 'gpu' is no strategy"),
        ("use another `spec`", "--strategy: use another --strategy"),
        ("TF_CONFIG lists none", "--strategy: TF_CONFIG lists none"),
    ],
)
def test_refusing_names_the_option(message: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), refusing(ValueError, option="--strategy", parameter="spec"):
        raise ValueError(message)
    assert capsys.readouterr().err == f"error: {line}\n"


def test_refusing_lets_other_errors_through() -> None:
    with pytest.raises(TypeError, match="a bug"), refusing(ValueError):
        raise TypeError("a bug")


def test_check_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable("--x", tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    check_writable("--x", tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == [] and (tmp_path / "kept").exists()


def test_check_writable_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        check_writable("--x", tmp_path / "file" / "b")
    assert "error: --x: cannot write to" in capsys.readouterr().err


def test_shown_is_relative_below_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a b" / "c") == "'a b/c'"
    assert shown(Path("x")) == "x"
    assert shown(tmp_path.parent) == str(tmp_path.parent)


NOISY = """
import os, sys
sys.path.insert(0, {folder!r})
from shared.command_line import quiet_import
try:
    with quiet_import():
        os.write(2, b"noise")
        raise ImportError("what matters")
finally:
    os.write(2, b"after")
"""


@pytest.mark.parametrize("level", [None, "0"])
def test_quiet_import_hides_noise_and_no_error(level: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    if level is not None:
        environment["TF_CPP_MIN_LOG_LEVEL"] = level
    folder = str(Path(command_line.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", NOISY.format(folder=folder)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ("noise" in done.stderr) == (level is not None)
    assert "after" in done.stderr and "ImportError: what matters" in done.stderr
