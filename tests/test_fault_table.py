import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from fault_table import *
settings.register_profile("random", derandomize=False)
settings.load_profile("random")  # on CI hypothesis would take another by itself
"""
TESTS = """
import pytest
from hypothesis import given, settings, strategies as st

@pytest.mark.fault(1, 4)
@settings(max_examples=7, database=None)
@given(st.integers())
def test_drawn(number):
    assert number is not None

@pytest.mark.fault(1)
def test_swept(record_property):
    record_property("cases", 40)
    record_property("seed", 5)

@pytest.mark.fault(2)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_failing(number):
    assert number

@pytest.mark.fault(3)
def test_skipped():
    pytest.skip("not here")

def test_of_no_row():
    raise AssertionError
"""


@pytest.mark.parametrize("processes", [0, 2])
def test_the_table_adds_up_cases_seeds_and_outcomes_in_any_number_of_processes(tmp_path, processes):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "fault",
        f"-n{processes}",
        "--hypothesis-seed=3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    lines = done.stdout.partition(" faults ")[2].splitlines()
    rows = [line.split() for line in lines if line[:2].strip().isdigit()]
    assert [int(row[0]) for row in rows] == list(range(1, 18)), done.stdout
    assert rows[0][-6:] == ["2", "47", "pass", "5,", "hypothesis", "3"]
    assert rows[1][-4:] == ["3", "3", "FAIL", "(1)"]
    assert rows[2][-4:] == ["1", "0", "skipped", "(1)"]
    assert rows[3][-5:] == ["1", "7", "pass", "hypothesis", "3"]
    assert rows[4][-4:] == ["0", "0", "not", "run"]
    assert "1 failed, 4 passed, 1 skipped" in done.stdout
    done = subprocess.run(
        [*command[:3], "-p", "no:randomly"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert "faults" not in done.stdout, "a few rows among other tests need no table"
