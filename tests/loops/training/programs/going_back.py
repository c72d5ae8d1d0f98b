"""Going back on two replicas; logical devices must be made before TensorFlow starts."""

import sys
from pathlib import Path

from gradloop import loops

two = loops.strategy("mirrored:cpu:2")
# This file is run by its path, and its neighbours are modules of `tests`.
sys.path.insert(0, str(Path(__file__).parents[4]))

from tests.loops.training.test_going_back import check  # noqa: E402

check(Path(sys.argv[1]) / "checkpoints", strategy=two)
