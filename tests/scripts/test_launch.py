"""launch.py: prefixes, statuses, and that nothing stays behind. The scripts it starts need no TensorFlow."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "scripts" / "launch.py"
TASK = """
import json, os, signal, sys, time
config = json.loads(os.environ["TF_CONFIG"])
kind, index = config["task"]["type"], config["task"]["index"]
"""


@pytest.fixture
def script(tmp_path):
    def write(body):
        file = tmp_path / "task.py"
        file.write_text(TASK + body)
        return file

    return write


def launch(*arguments, timeout=60):
    command = [sys.executable, str(LAUNCH), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def test_prefixes_and_arguments(script):
    done = launch("--workers", 2, script("print(kind, index, sys.argv[1:])"), "--epochs", "3")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert lines == ["worker 0 | worker 0 ['--epochs', '3']", "worker 1 | worker 1 ['--epochs', '3']"]


def test_each_task_has_a_port_of_its_own(script):
    body = "print(*[a for some in config['cluster'].values() for a in some])"
    body += "\nif kind != 'chief': time.sleep(60)"
    done = launch("--workers", 2, "--parameter-servers", 1, script(body))
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("chief | ")]
    addresses = line.removeprefix("chief | ").split()
    assert len(set(addresses)) == 4 and all(a.startswith("127.0.0.1:") for a in addresses)


def test_bars_of_one_task_pass_and_of_others_the_last_state(script):
    done = launch(script("print('a\\rb\\rc\\nend'); sys.stdout.write('last')"))
    assert "worker 0 | a\r" in done.stdout or "worker 0 | a\nworker 0 | b" in done.stdout
    assert "worker 1 | c\n" in done.stdout and "worker 1 | a" not in done.stdout
    assert done.stdout.count("| last\n") == 2


def test_letters_of_several_bytes_over_a_border(script):
    done = launch("--workers", 1, script("sys.stdout.write('ä' * 100001)"))
    assert done.stdout.count("ä") == 100001 and "\ufffd" not in done.stdout


def test_the_first_failure_ends_all(script):
    done = launch(script("if index == 1: sys.exit(7)\ntime.sleep(60)"), timeout=30)
    assert done.returncode == 7
    assert "worker 1 failed with status 7; ending the others" in done.stderr


def test_a_signal_is_told_as_shells_do(script):
    done = launch("--workers", 1, script("os.kill(os.getpid(), signal.SIGKILL)"))
    assert done.returncode == 128 + signal.SIGKILL


def test_a_chief_survives_a_worker_that_was_killed_but_not_one_that_failed(script):
    killed = "if kind == 'worker': os.kill(os.getpid(), signal.SIGKILL)\n"
    rest = "time.sleep(2 if kind == 'chief' else 60)"
    assert launch("--workers", 1, "--parameter-servers", 1, script(killed + rest)).returncode == 0
    failed = "if kind == 'worker': sys.exit(3)\n"
    assert launch("--workers", 1, "--parameter-servers", 1, script(failed + rest)).returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(script, tmp_path, number):
    child = "import subprocess; subprocess.Popen(['sleep', '77.125'])\n"
    process = subprocess.Popen(
        [sys.executable, str(LAUNCH), str(script(child + "print('up', flush=True); time.sleep(60)"))],
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(2):
        assert process.stdout is not None
        assert process.stdout.readline().endswith("up\n")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    for _ in range(50):
        left = subprocess.run(["pgrep", "-f", "sleep 77.125"], capture_output=True, text=True).stdout
        if not left:
            break
        time.sleep(0.1)
    assert not left


def test_timeout(script):
    done = launch("--timeout", 1, script("time.sleep(60)"), timeout=30)
    assert done.returncode == 124
    assert "not done after 1 seconds" in done.stderr


SAVES = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(index), sys.exit(75)))\n"


def test_tasks_that_have_saved_are_not_started_again(script):
    """Nor is one of them killed while it still saves."""
    done = launch("--restarts", 3, script("time.sleep(index)\nprint('saved')\nsys.exit(75)"))
    assert done.returncode == 75 and done.stdout.count("saved") == 2 and not done.stderr


def test_asked_to_end(script):
    command = [sys.executable, str(LAUNCH), str(script(SAVES + "print('up', flush=True); time.sleep(60)"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        assert process.stdout is not None
        assert process.stdout.readline().endswith("up\n")
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)
    assert process.returncode == 75


RUNS = """
log = open(sys.argv[1], "a")
log.write(f"{kind} {index} of {len(config['cluster']['worker'])}\\n")
log.close()
first = open(sys.argv[1]).read().count("worker 1 of") == 1
"""


def test_all_start_again_when_one_is_killed(script, tmp_path):
    killed = "if index == 1 and first: os.kill(os.getpid(), signal.SIGKILL)\n"
    done = launch("--restarts", 2, script(RUNS + killed + "time.sleep(0.5)"), tmp_path / "log")
    assert done.returncode == 0, done.stderr
    assert "worker 1 was killed by SIGKILL; ending the others" in done.stderr
    assert "starting again with 2 workers: restart 1 of 2" in done.stderr
    runs = sorted((tmp_path / "log").read_text().splitlines())
    assert runs[-2:] == ["worker 1 of 2"] * 2 and runs[0] == "worker 0 of 2"


def test_restarts_end(script, tmp_path):
    done = launch("--restarts", 2, script(RUNS + "sys.exit(5)"), tmp_path / "log")
    assert done.returncode == 5
    assert done.stderr.count("starting again") == 2 and done.stderr.count("ending the others") == 3


def test_without_the_workers_that_were_killed(script, tmp_path):
    killed = "if index == 2 or index == 1 and len(config['cluster']['worker']) == 2:\n"
    killed += "    os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(0.3 if index else 1)"
    start = ["--workers", 3, "--restarts", 9, "--min-workers"]
    done = launch(*start, 1, script(RUNS + killed), tmp_path / "log")
    assert done.returncode == 0, done.stderr
    assert "worker 0 of 1" in (tmp_path / "log").read_text()
    done = launch(*start, 2, script(RUNS + killed), tmp_path / "other")
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stderr.count("starting again") == 1
    assert done.stderr.endswith("1 of the workers are left, fewer than --min-workers 2\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--workers", "2", "--restarts", "1", "--min-workers", "3", __file__], "more than --workers 2"),
        (["--min-workers", "1", __file__], "pass --restarts"),
        (["--restarts", "-1", __file__], "--restarts"),
        (["nowhere.py"], "there is no file nowhere.py"),
        (["--workers", "0", __file__], "--workers"),
        ([], "SCRIPT"),
    ],
)
def test_bad_arguments(arguments, message):
    done = launch(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
