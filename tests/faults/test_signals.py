"""Signals once and twice, and readers that go away, with a command that hangs in its clean-up."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

HANGING = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background
from fmnist_aug.cli.main import cli, main

@cli.command()
def hang():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaning up", flush=True)
        time.sleep(SECONDS)

main()
"""


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_the_first_signal_lets_things_finish_and_the_second_does_not(number, code, said, twice):
    script = HANGING.replace("SECONDS", "60" if twice else "0")
    process = subprocess.Popen(
        [sys.executable, "-c", script, "hang"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    assert process.stdout.readline() == "cleaning up\n"
    if twice:
        process.send_signal(number)
    _, told = process.communicate(timeout=50)
    assert process.returncode == code
    assert "Traceback" not in told
    assert (said in told) is not twice


@pytest.mark.fault(9)
def test_an_ignored_interrupt_stays_ignored(python):
    code = HANGING.replace("time.sleep(60)", "import os, signal; os.kill(os.getpid(), 2)", 1)
    code = code.replace("signal.default_int_handler", "signal.SIG_IGN")
    code = code.replace("SECONDS", "0")
    assert python(code, "hang").stdout == "working\ncleaning up\n"


@pytest.mark.fault(16)
@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-", "| true"])
def test_closed_streams_end_without_a_traceback(closing):
    command = f"{sys.executable} -m fmnist_aug --version {closing}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (0, 1)
    assert not done.stderr


@pytest.mark.fault(7, 16)
def test_a_full_disk_behind_stdout_is_a_failure():
    command = f"{sys.executable} -m fmnist_aug --version > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
