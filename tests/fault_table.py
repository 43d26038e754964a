"""The table of faults: which tests stand for each row, what they tried and how they ended.

A test names its rows with ``@pytest.mark.fault(3, 5)``. It tells how much it tried with
``record_property("cases", n)``, else it is one case, and what its random numbers came from with
``record_property("seed", s)``; for hypothesis tests both are told here. These properties travel
with the reports, so the table is the same under pytest-xdist.
"""

from __future__ import annotations

import functools
import secrets
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings

FAULTS = {
    1: "damaged files of data",
    2: "bombs and forged headers",
    3: "wrong, swapped or contradictory files",
    4: "degenerate data and confusions",
    5: "plan or weights taken from the test set",
    6: "numbers that are not finite",
    7: "disk full, input/output errors",
    8: "kill -9",
    9: "SIGINT once and twice, SIGTERM",
    10: "two runs in one folder, foreign files",
    11: "read-only folders, links, no folders",
    12: "unusual paths, LANG=C",
    13: "hostile checkpoints",
    14: "hostile names in page and terminal",
    15: "cells that a spreadsheet would run",
    16: "unequal repetitions, closed streams",
    17: "no network",
}
ENDED = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


@pytest.hookimpl(tryfirst=True)  # hypothesis reads its option when it is configured
def pytest_configure(config: pytest.Config) -> None:
    """Let hypothesis draw from a seed that can be told, and given again."""
    if not settings.default.derandomize and config.getoption("hypothesis_seed") is None:
        config.option.hypothesis_seed = str(secrets.randbits(32))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note the rows where the reports take them along."""
    rows = {row for mark in item.iter_markers("fault") for row in mark.args}
    if not rows <= FAULTS.keys():
        raise pytest.UsageError(
            f"{item.nodeid}: the table of faults has no rows {rows - {*FAULTS}}"
        )
    item.user_properties += [("fault", row) for row in sorted(rows)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Count the examples of a hypothesis test."""
    test = getattr(item, "obj", None)
    if not item.get_closest_marker("fault") or not is_hypothesis_test(test):
        return (yield)
    cases, tried = 0, test.hypothesis.inner_test

    @functools.wraps(tried)
    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal cases
        cases += 1
        return tried(*arguments, **options)

    test.hypothesis.inner_test = counted
    try:
        return (yield)
    finally:
        test.hypothesis.inner_test = tried
        derandomized = settings.default.derandomize
        seed = "derandomized" if derandomized else item.config.getoption("hypothesis_seed")
        item.user_properties += [("cases", cases), ("seed", f"hypothesis {seed}")]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the table if it was asked for by ``-m fault``, or if every row of it was tested."""
    rows: dict[int, list[tuple[str, pytest.TestReport]]] = defaultdict(list)
    for ended in ENDED:
        for report in terminalreporter.stats.get(ended, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "fault":
                    rows[value].append((ended, report))
    if not rows or (len(rows) < len(FAULTS) and "fault" not in config.option.markexpr):
        return
    lines = [("", "fault", "tests", "cases", "", "seeds")]
    lines += [(str(row), fault, *_cells(rows[row])) for row, fault in FAULTS.items()]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    terminalreporter.section("faults")
    for number, fault, tests, cases, ended, seeds in lines:
        line = (
            f"{number:>{wide[0]}}  {fault:{wide[1]}}  {tests:>{wide[2]}}  {cases:>{wide[3]}}  "
            f"{ended:{wide[4]}}  {seeds}"
        )
        terminalreporter.write_line(line.rstrip(), red=ended.startswith("FAIL"))


def _cells(reports: list[tuple[str, pytest.TestReport]]) -> tuple[str, str, str, str]:
    """Tests, cases, how they ended, and seeds."""
    cases: dict[str, int] = {}
    seeds = set()
    ended: dict[str, set[str]] = defaultdict(set)
    for outcome, report in reports:
        # a test has two reports if it fails and its clean-up does as well
        found = dict(report.user_properties)
        cases[report.nodeid] = 0 if outcome == "skipped" else found.get("cases", 1)
        seeds |= {str(value) for name, value in report.user_properties if name == "seed"}
        ended[outcome].add(report.nodeid)
    failed = len(ended["failed"] | ended["error"] | ended["xpassed"])
    skipped = len(ended["skipped"] | ended["xfailed"])
    words = [f"FAIL ({failed})" if failed else "pass" if ended["passed"] else ""]
    words += [f"skipped ({skipped})"] if skipped else []
    told = ", ".join(filter(None, words)) or "not run"
    return str(len(cases)), f"{sum(cases.values()):,}", told, ", ".join(sorted(seeds))
