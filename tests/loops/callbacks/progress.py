"""A progress bar in the middle of a run, and a clock that tests turn."""

from __future__ import annotations

import numpy as np

from gradloop import loops

LOGS = {"loss": 0.25, "accuracy": 0.5, "val_loss": 0.125, "val_accuracy": 0.75}
SHOWN = "loss=0.2500 accuracy=0.5000 val_loss=0.1250 val_accuracy=0.7500"


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def monotonic(self):
        return self.now


def begun(file, steps=1200, **options):
    """A bar in the second of 15 epochs."""
    bar = loops.ProgressBar(file, **options)
    bar.set_params({"epochs": 15, "steps": steps})
    bar.on_epoch_begin(1)
    return bar


def step_values(*losses):
    return {"loss": np.array(losses, "float32"), "accuracy": np.full(len(losses), 0.75, "float32")}
