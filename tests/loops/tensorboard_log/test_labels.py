"""Which classes examples are of, for every form of truth and prediction."""

import numpy as np
import pytest

from gradloop.loops.tensorboard_log.labels import labels_of

SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]])
LOGITS = np.log(SHARES) + 3.0
TRUTH = np.array([0, 1, 1])


@pytest.mark.parametrize("scores", [SHARES, LOGITS, SHARES.astype("float32")])
@pytest.mark.parametrize("truth", [TRUTH, TRUTH[:, None], TRUTH.astype("float32"), np.eye(3)[TRUTH]])
def test_several_classes(scores, truth):
    labels = labels_of(truth, scores)
    assert labels.truth.tolist() == [0, 1, 1] and labels.predicted.tolist() == [0, 2, 1]
    assert labels.classes == 3
    np.testing.assert_allclose(labels.probability, [0.7, 0.6, 0.5], rtol=1e-6)
    np.testing.assert_allclose(labels.true_probability, [0.7, 0.3, 0.5], rtol=1e-6)


def test_scores_that_are_not_finite_have_no_shares():
    labels = labels_of(TRUTH, np.array([[np.inf, 0, -np.inf], [np.nan, 0, 1], [0, 1, 2]]))
    assert np.isnan(labels.probability).tolist() == [True, True, False] and labels.predicted[2] == 2


def test_a_class_of_each_pixel():
    labels = labels_of(TRUTH.reshape(1, 1, 3), SHARES.reshape(1, 1, 3, 3))
    assert labels.truth.shape == labels.predicted.shape == (1, 1, 3)
    assert labels.predicted.tolist() == [[[0, 2, 1]]]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("logits", [False, True])
def test_binary_labels(shape, logits):
    shares = np.array([0.9, 0.4, 0.2])
    scores = np.log(shares / (1 - shares)) if logits else shares
    labels = labels_of(np.array([1, 1, 0]), scores.reshape(shape), logits)
    assert labels.truth.tolist() == [1, 1, 0] and labels.predicted.tolist() == [1, 0, 0]
    np.testing.assert_allclose(labels.probability, [0.9, 0.6, 0.8])
    np.testing.assert_allclose(labels.true_probability, [0.9, 0.4, 0.8])


@pytest.mark.parametrize(
    ("truth", "predictions"),
    [
        (None, SHARES),
        (TRUTH, None),
        (np.array([0.5, 1.5, 2.0]), np.array([0.4, 1.2, 2.1])),  # regression
        (np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1]]), SHARES),  # several labels at once
        (np.zeros((3, 4)), SHARES),
        (np.array([0.5, 1.0, 2.0]), SHARES),
        (np.array(["a", "b", "c"]), SHARES),
        (np.zeros((3, 8, 8, 3)), np.zeros((3, 8, 8, 3))),  # images
    ],
)
def test_no_classes(truth, predictions):
    assert labels_of(truth, predictions) is None
