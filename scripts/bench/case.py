"""The cases (a network at a batch size), and the interface of contenders."""

from __future__ import annotations

import abc
import dataclasses

import numpy as np

NETWORKS = {"softmax": "784-10 softmax", "lenet5": "LeNet-5"}
PARAMETERS = {"softmax": 7_850, "lenet5": 61_706}
# Shapes of the kernels, in TensorFlow's layout, for contenders that define the networks by hand.
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "softmax": [(784, 10)],
    "lenet5": [(5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10)],
}
LEARNING_RATE = 0.1
STEPS_PER_CALL = 50  # that tuned `fit` and Orbit run on the device between two returns to Python
EXAMPLES_IN_BLOCK = {"softmax": 60_000, "lenet5": 16_000}  # about a second for the quicker contenders


@dataclasses.dataclass(frozen=True)
class Case:
    """One network at one batch size."""

    network: str  # a key of `NETWORKS`
    batch_size: int
    steps: int  # of a block; at most one epoch
    examples: int = 60_000  # synthetic ones; ignored where there is `data`
    data: str | None = None  # path of an `.npz` file with `x_train` and `y_train`

    @property
    def title(self) -> str:
        """Network and batch as they stand in the tables."""
        return f"{NETWORKS[self.network]}, batch {self.batch_size}"


def steps_in_block(network: str, wanted: int | None, examples: int, batch_size: int) -> int:
    """Steps of a block: at most one epoch, in whole device calls unless a number was asked for."""
    epoch = examples // batch_size
    if epoch < 1:
        raise ValueError(
            f"`batch_size` is {batch_size} but the data holds {examples} examples: "
            "take a smaller batch or more examples"
        )
    if wanted is not None:
        return min(wanted, epoch)
    steps = min(epoch, EXAMPLES_IN_BLOCK[network] // batch_size)
    return steps - steps % STEPS_PER_CALL or min(epoch, STEPS_PER_CALL)


class Contender(abc.ABC):
    """One way to train the network, built and ready to run blocks of steps.

    Building it must not run a step: the first step is timed, with everything that the framework defers to it.
    """

    note: str = ""

    @property
    @abc.abstractmethod
    def parameters(self) -> int:
        """Number of trained parameters: equal for all contenders, and checked."""

    @abc.abstractmethod
    def block(self, steps: int) -> None:
        """Trains for `steps` steps and returns when the last one has finished."""

    @abc.abstractmethod
    def loss(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Mean cross-entropy of the present weights on the given examples."""

    def tune(self) -> None:  # noqa: B027  # optional
        """Makes choices that need a trial run; called after the first step, before warm-up."""
