"""What programs log for TensorBoard, by their options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from gradloop import loops

from shared.tensorboard_options import add_tensorboard_options, board


def _parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--hidden", type=int, nargs="*", default=[])
    parser.add_argument("--log-dir", type=Path, default=Path("logs"))
    add_tensorboard_options(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("text", ["3", "3,2", "0,2", "a,b", "1,2,3", "-1,2"])
def test_other_steps_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="wanted FIRST,LAST, two numbers of steps from 1, got"):
        _parse(f"--profile={text}")


def test_the_board_gets_the_options_and_the_hyperparameters(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(loops, "TensorBoard", lambda *given, **named: made.append((given, named)))
    board(_parse(), Path("logs"))
    board(
        _parse("--images", "9", "--histograms", "conv", "--profile", "3,5", "--hidden", "4", "8"), Path("a")
    )
    plain, full = made
    quiet = {"images": 0, "histograms": None, "profile": None, "hparams": {"rate": 0.1, "images": 0}}
    assert plain == (("logs",), quiet)
    assert full[1]["images"] == 9 and full[1]["histograms"] == "conv" and full[1]["profile"] == (3, 5)
    assert full[1]["hparams"] == {"rate": 0.1, "images": 9, "histograms": "conv", "hidden": "4 8"}
