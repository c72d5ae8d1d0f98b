"""`python program.py REPLICAS` runs all cells of the grid, in a process that may make logical devices.

It prints JSON: the name of each cell and, for a cell that fails, why. `python program.py workers` runs them
on the workers that TF_CONFIG lists. With a second argument, `per-replica-count`, it runs those of
`PER_REPLICA_COUNT` alone, with `others` all but those and `FURTHER`.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path

import tensorflow as tf

if __name__ == "__main__" and sys.argv[1] != "workers":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 8)

# This file is run by its path, and its neighbours are modules of `tests`.
sys.path.insert(0, str(Path(__file__).parents[3]))

# Each adds its own to CELLS.
from tests.loops.grid import (  # noqa: E402, F401
    cells,
    layer_cells,
    loss_cells,
    record_cells,
    resume_cells,
    update_cells,
)
from tests.loops.grid.harness import CELLS, FURTHER, PER_REPLICA_COUNT, mirrored  # noqa: E402


def main(where, which="all"):
    found = {}
    workers = tf.distribute.MultiWorkerMirroredStrategy() if where == "workers" else None
    for name, function in CELLS.items():
        if which != "all" and (
            name in FURTHER or (name in PER_REPLICA_COUNT) != (which == "per-replica-count")
        ):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(workers or mirrored(int(where)))
        except Exception:
            found[name] = traceback.format_exc(limit=-3)[-1500:]
        else:
            found[name] = None
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
