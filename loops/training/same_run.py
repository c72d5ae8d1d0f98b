"""Whether a checkpoint is of such a run as the one that is to resume from it."""

from __future__ import annotations

from ..checkpoint.metadata import RunMetadata
from ..checkpoint.tensor_file import TensorFile


def run_of(file: TensorFile, steps: int | None, metrics: list[str]) -> RunMetadata:
    """What a checkpoint says of the run that wrote it.

    Args:
        file: the checkpoint's.
        steps: the batches in an epoch of the run that is to resume; None where only reading the data tells.
        metrics: the names of its metrics.

    Raises:
        ValueError: `Checkpoint.save` wrote it; or it is of a run with other epochs or metrics.
    """
    run = file.metadata.get("run")
    if run is None:
        raise ValueError(
            f"The checkpoint {file.path!r} was written by `Checkpoint.save`, which knows of no run of "
            "`train`: resume it with `restore`, or name another folder."
        )
    if run["steps"] != steps:
        raise ValueError(
            f"An epoch is {steps} batches, and was {run['steps']} in the run of the "
            f"checkpoint {file.path!r}: pass the same data and `steps_per_epoch`, or name another folder."
        )
    if run["measures"] != metrics:
        here, there = (", ".join(names) or "none" for names in (metrics, run["measures"]))
        raise ValueError(
            f"`metrics` are {here}, and were {there} in the run of the checkpoint {file.path!r}: make "
            "the step as it was, or name another folder."
        )
    return run
