"""Histograms equal NumPy's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.update.histograms import BUCKETS, Histograms

RANDOM = np.random.RandomState(0)
NORMAL = RANDOM.normal(size=(40, 50))
CASES: dict[str, Any] = {
    "normal": NORMAL.astype("float32"),
    "float64": NORMAL,
    "half": NORMAL.astype("float16"),
    "one value": np.full((3, 4), 2.5, "float32"),
    "one element": np.float32(7.0),
    "zeros": np.zeros(5, "float32"),
    "tiny": 1e-20 * NORMAL.astype("float32"),
    "NaN": np.where(NORMAL > 2, np.nan, NORMAL).astype("float32"),
    "infinite": np.where(NORMAL > 2, np.inf, np.where(NORMAL < -2, -np.inf, NORMAL)).astype("float32"),
    "all NaN": np.full(4, np.nan, "float32"),
    "wide": np.array([-3e38, 0.0, 3e38], "float32"),
    "large": np.full(3, 1e10, "float32"),
}


@pytest.mark.parametrize("graph", [False, True])
def test_they_are_numpys(graph: bool) -> None:
    histograms = Histograms(list(CASES))
    for names in (
        list(CASES),
        [name for name in CASES if name not in ("NaN", "infinite", "all NaN", "wide")],
    ):
        tensors = [tf.constant(CASES[name] if name in names else CASES["zeros"]) for name in CASES]
        count = tf.function(histograms.count) if graph else histograms.count
        count(tensors)
        for name, (counts, edges) in histograms.read().items():
            value = CASES[name if name in names else "zeros"].astype("float64")
            value = value[np.isfinite(value)]
            if name == "large":
                assert counts.sum() == 3 and edges[0] < 1e10 < edges[-1]
                continue
            with warnings.catch_warnings():
                expected, places = np.histogram(value, BUCKETS)
            np.testing.assert_allclose(edges, places, rtol=1e-6, err_msg=name)
            np.testing.assert_array_equal(counts, expected, err_msg=name)


def test_rows_that_a_sparse_gradient_leaves_out_are_zeros() -> None:
    histograms = Histograms(["gradients/table"])
    rows = np.arange(6.0, dtype="float32").reshape(2, 3)
    histograms.count([tf.IndexedSlices(tf.constant(rows), tf.constant([1, 4]), tf.constant([5, 3]))])
    dense = np.zeros((5, 3))
    dense[[1, 4]] = rows
    np.testing.assert_array_equal(histograms.read()["gradients/table"][0], np.histogram(dense, BUCKETS)[0])
