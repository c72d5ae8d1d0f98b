"""`Preempted`: the end of a program that was asked to end, and is to be started again."""

from __future__ import annotations

import signal as signals


class Preempted(SystemExit):
    """`train` raises it when a signal or the time limit ended a run, after the run is saved.

    A program that does not catch it ends without a traceback, with the exit status 75. In `sysexits.h` this
    is EX_TEMPFAIL, "temporary failure, try again". A scheduler can tell it from the status of a run that
    failed (1, an error in Python, which would happen again) and of a run that was killed before it was saved
    (143 in shells, 128 + SIGTERM). How to have the job started again:

    * Slurm: a job that Slurm itself preempts is queued again with `sbatch --requeue`, whatever its status.
      Otherwise the batch script does it: `python train.py; test $? = 75 && scontrol requeue $SLURM_JOB_ID`;
      or the administrator sets `RequeueExit=75`. `sbatch --signal=TERM@120` sends the signal 120 seconds
      before the end; `USR1` works too.
    * Kubernetes: a Job starts a failed pod again up to `backoffLimit` times. With a `podFailurePolicy` of
      `onExitCodes: {operator: In, values: [75]}` and `action: Ignore`, an end with 75 does not count.
    * LSF: `bsub -Q 75`. HTCondor: `on_exit_remove = ExitCode =!= 75`. systemd: `RestartForceExitStatus=75`.

    In a loop of your own, raise it yourself when the state is saved (see `graceful_exit`).

    Attributes:
        code: 75, also of the class: `loops.Preempted.code`.
        signal: the number of the signal, such as `signal.SIGTERM`; None for the time limit.
        step: the number of the last step in all of the step's training; None where no run of `train` ended.
        epoch: the one that was running, from 0; None likewise.
        checkpoint: the folder of the checkpoint from which the run goes on; None if nothing is saved yet.

    Example:
        >>> from gradloop import loops
        >>> try:
        ...     raise loops.Preempted  # or `loops.train(step, data, checkpoint="runs/a")`, on SIGTERM
        ... except loops.Preempted as end:
        ...     print(end.code, end.signal)
        75 None
    """

    code = 75

    def __init__(
        self,
        signal: int | None = None,
        step: int | None = None,
        epoch: int | None = None,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__(signal, step, epoch, checkpoint)  # as pickles want it; `code` stays the class's
        self.signal = signal
        self.step = step
        self.epoch = epoch
        self.checkpoint = checkpoint

    def __str__(self) -> str:
        by = "The time limit" if self.signal is None else signals.Signals(self.signal).name
        if self.step is None or self.epoch is None:
            return "The program ended early, and is to be started again."
        saved = f"goes on from {self.checkpoint}" if self.checkpoint else "begins anew, as nothing was saved"
        return (
            f"{by} ended training after step {self.step}, in epoch {self.epoch + 1}: the same call {saved}."
        )
