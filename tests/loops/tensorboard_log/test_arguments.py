"""Arguments of `TensorBoard` that it refuses, before anything is written."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("every_steps", 0, ValueError, "`every_steps` must be at least 1, got 0"),
        ("every_steps", True, TypeError, "`every_steps` must be a whole number of at least 1, got True"),
        ("every_steps", 1.5, TypeError, "`every_steps` must be a whole number of at least 1, got 1.5"),
        ("watch", 3, TypeError, '`watch` must be "groups", "variables", a filter .*, or None, got 3'),
        ("watch", ["conv"], TypeError, "`watch` must be .*, got .'conv'."),
        ("watch_every", 0, ValueError, "`watch_every` must be at least 1, got 0"),
        ("histograms", True, TypeError, "`histograms` must be a filter .*, or None, got True"),
        ("histograms_every", -5, ValueError, "`histograms_every` must be at least 1, got -5"),
        ("activations", 0, TypeError, "`activations` must be a filter .*, or None, got 0"),
        ("images", -1, ValueError, "`images` must be at least 0, got -1"),
        ("images", True, TypeError, "`images` must be a whole number of at least 0, got True"),
        ("graph", "yes", TypeError, "`graph` must be True or False, got 'yes'"),
        ("profile", 10, TypeError, r"`profile` must be a pair `\(first, last\)` .*, got 10"),
        ("profile", (5, 3), ValueError, r"`profile\[1\]` must be at least 5, got 3"),
        ("profile", (0, 3), ValueError, r"`profile\[0\]` must be at least 1, got 0"),
        ("hparams", ["rate"], TypeError, "`hparams` must be a dict .*, got .'rate'."),
        ("hparams", {"rate": [0.1]}, TypeError, r"`hparams` must map .*, got 'rate': \[0.1\]; .*`str"),
        ("hparams", {3: 0.1}, TypeError, "`hparams` must map names .*, got 3: 0.1"),
    ],
)
def test_refused(tmp_path, argument, value, error, message):
    with pytest.raises(error, match=message):
        loops.TensorBoard(tmp_path / "logs", **{argument: value})
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("folder", "error", "message"),
    [
        (None, TypeError, "must be the path of a folder, got None"),
        (3, TypeError, "must be the path of a folder, got 3"),
        ("", ValueError, "is '', which names no folder: '.' is"),
    ],
)
def test_bad_log_dir(folder, error, message):
    with pytest.raises(error, match=f"`log_dir` {message}"):
        loops.TensorBoard(folder)


def test_what_it_wants_measured(tmp_path):
    watch = loops.TensorBoard(tmp_path, watch="variables", watch_every=3, histograms="kernel").watch()
    assert watch[:4] == ("variables", 3, "kernel", 1000)
    assert loops.TensorBoard(tmp_path).watch().variables == "groups"
    assert loops.TensorBoard(tmp_path, watch=None).watch() is None


@pytest.mark.parametrize(
    ("step", "values", "error", "message"),
    [
        (1.5, {"loss": 1.0}, TypeError, "`step` must be a whole number of at least 0, got 1.5"),
        (-1, {"loss": 1.0}, ValueError, "`step` must be at least 0, got -1"),
        (1, 0.5, TypeError, "`values` must be a dict of tags and numbers, got 0.5"),
        (1, {3: 0.5}, TypeError, "`values` must map tags to numbers, got the tag 3"),
        (1, {"loss": "low"}, TypeError, "`values` must map tags to numbers, got 'loss': 'low'"),
        (1, {"loss": 10**400}, TypeError, "`values` must map tags to numbers, got 'loss': 1000"),
        (1, {"loss": None}, TypeError, "`values` must map tags to numbers, got 'loss': None"),
        (1, {"loss": np.ones((2, 2))}, ValueError, r"`values` .* 'loss' \(2, 2\): reduce"),
        (1, {"loss": np.ones(2), "rate": 0.1}, ValueError, r"`values` .* 'loss' \(2,\), 'rate' \(\)"),
        (1, {"loss": np.ones(2), "rate": tf.ones(3)}, ValueError, r"`values` .* 'rate' \(3,\)"),
    ],
)
def test_refused_by_write(tmp_path, step, values, error, message):
    board = loops.TensorBoard(tmp_path / "logs")
    with pytest.raises(error, match=message):
        board.write(step, values)
    assert not (tmp_path / "logs").exists()
