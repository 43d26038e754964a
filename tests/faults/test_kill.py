"""kill -9 at random moments of a comparison; FMNIST_AUG_KILL_ROUNDS sets how many."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault(8)

ROUNDS = int(os.environ.get("FMNIST_AUG_KILL_ROUNDS", "3"))
PROGRAM = Path(__file__).parents[2] / "examples" / "kill_rounds.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_results_are_the_same_however_often_a_comparison_is_killed(record_property):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--rounds", str(ROUNDS)],
        capture_output=True,
        text=True,
        timeout=120 + 60 * ROUNDS,
        # a process that is forked must not have used threads
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    kills, seed = re.match(r"(\d+) kills \(seed (\d+),", done.stdout).groups()
    assert int(kills) == ROUNDS
    record_property("cases", int(kills))
    record_property("seed", int(seed))
