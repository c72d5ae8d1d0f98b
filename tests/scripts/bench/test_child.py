"""The benchmark's own processes: what they answer, and what is said of one that fails."""

import os
import sys

import pytest

from bench import child


def answer(code, python=sys.executable, **environment):
    return child.answer(child.start(python, "-c", code, **environment))


def test_answers_with_its_last_line():
    assert answer("print('Epoch 1\\rEpoch 2\\n{\"us\": [1.5]}\\n\\n')") == {"us": [1.5]}


def test_finds_the_benchmark_and_gets_more_environment():
    code = "import json, os, bench.child; print(json.dumps([os.environ['TF_CONFIG'], 'PATH' in os.environ]))"
    assert answer(code, TF_CONFIG="x") == ["x", True]


def test_says_why_it_failed():
    with pytest.raises(RuntimeError, match="^exit status 1: ValueError: told so$"):
        answer("raise ValueError('told so')")
    with pytest.raises(RuntimeError, match="^exit status 3$"):
        answer("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="^killed by signal 9$"):
        answer("import os; os.kill(os.getpid(), 9)")


def test_an_interpreter_is_named_from_where_the_user_is(tmp_path, monkeypatch):
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert answer("print(1)", python=os.path.join(".", "python")) == 1
