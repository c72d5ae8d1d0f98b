"""A run that is sent signals in one of its phases; or goes on, and is compared with one that nothing ended.

python preempted.py FOLDER PHASE SECONDS SIGNAL...
python preempted.py FOLDER...
"""

import signal
import sys

from gradloop.loops.checkpoint.saved_step import SavedStep, Snapshot
from tests.loops.training.preempted_runs import PHASES, Sender, Sent
from tests.loops.training.resumed_runs import Noted, assert_same_run, result

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a worker of pytest-xdist starts ignores it
case = Sent()
step = case.step()
if sys.argv[2:3] and sys.argv[2] in PHASES:
    sender = Sender(sys.argv[2], float(sys.argv[3]), tuple(map(int, sys.argv[4:])))
    case.train(step, sender, folder=sys.argv[1])
    raise AssertionError("It was not ended.")
beginning = Snapshot(SavedStep(step))
straight = result(step, case.train(step, Sender(None)), Noted())
for folder in sys.argv[1:]:
    beginning.put_back()
    assert_same_run(result(step, case.train(step, Sender(None), folder=folder), Noted()), straight)
    print("same")
