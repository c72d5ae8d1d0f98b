"""Folders whose names TensorFlow takes for patterns."""

import os

import pytest
import tensorflow as tf

from gradloop.optim.common.readable import readable


@pytest.mark.parametrize("name", ["[1]", "lr=[0.1,0.01]", "a\\b", "a*?{b} ü"])
def test_what_tensorflow_wrote_is_found(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir(name)
    path = f"{name}/state"
    tf.raw_ops.SaveV2(prefix=path, tensor_names=["a"], shape_and_slices=[""], tensors=[3.0])
    with readable(path) as place:
        assert tf.train.load_variable(place, "a") == 3.0
        assert place == path or os.path.samefile(os.path.dirname(place), name)
    assert os.listdir(name) and not os.path.lexists(place) or place == path


def test_other_paths_stay_as_they_are():
    for path in ("runs/1/state", "gs://bucket/[1]/state"):
        with readable(path) as place:
            assert place == path
