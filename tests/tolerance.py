"""How far apart two computations of the same numbers may end, by the arithmetic and not by a machine."""

from __future__ import annotations

import numpy as np


def rounding(dtype: str = "float32", sums: int = 1, steps: int = 1) -> float:
    """The difference, relative to the largest number, that rounding explains on any processor.

    Kernels add in orders of their own: by the processor (AVX-512 and AMX have others than AVX2), by oneDNN,
    by the number of threads and of replicas. Adding n numbers is off by at most (n - 1) * eps / 2 of the sum
    of their magnitudes, whatever the order (Higham, Accuracy and Stability of Numerical Algorithms, 4.2), so
    two orders are within n * eps of each other. Eight such sums follow one another here, in a small network
    and back; each step of training adds its own to what it starts from.

    That holds where no step magnifies what it is given. BatchNorm over few examples, Adam near a gradient of
    zero and a long run all do, by up to a million times. So tests marked `numbers` make their models in
    float64, where a million times this is still far below what a mistake would change. What is left is the
    same on every processor: a loss, its share on a replica and what is logged are single numbers of float32,
    right within `rounding()`.

    Args:
        dtype: Of the computation.
        sums: How many numbers the longest sum adds: the inputs of a unit, or the examples of a batch.
        steps: How many steps of training come before the comparison.
    """
    return 8 * float(np.finfo(dtype).eps) * sums * steps
