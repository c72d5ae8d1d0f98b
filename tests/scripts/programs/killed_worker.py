"""A worker of one of the runs of `soak.py`: `killed_worker.py FOLDER RUN STEP ...` kills worker 1 by SIGKILL.

That is when each of these steps has run for the first time; `launch.py` starts it.
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[3] / "scripts")]

from gradloop import loops  # noqa: E402

from shared import soak_runs  # noqa: E402

folder, made, steps = Path(sys.argv[1]), sys.argv[2], [int(step) for step in sys.argv[3:]]


class Killed(loops.StepsCallback):
    def steps_allowed(self, done):
        return 1  # on each worker, so that they run as many in a call

    def on_train_steps_end(self, first, values):
        mark = folder / f"killed-after-{first}"
        if first in steps and json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def run():
    run = getattr(soak_runs, made)()
    return run._replace(callbacks=[*run.callbacks, Killed()])


vars(soak_runs)["killed"] = run
soak_runs.run("killed", folder, "multiworker")
