"""Prints the tables of the README: python examples/readme_tables.py FILE.

The file is a comparison's results.json, or what examples/benchmark.py wrote with --out (JSON) or
with --accuracy-file (JSON lines).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from fmnist_aug.report.summary import focus_sentence


def accuracy_table(results: dict[str, Any]) -> str:
    """One row a run and the average, in %, then the mislabels around the classes in focus."""
    arms = list(results["arms"])
    runs = {(run["arm"], run["seed"]): run for run in results["runs"]}
    seeds = sorted({seed for _, seed in runs})
    rows = []
    for number, seed in enumerate(seeds, 1):
        rows.append((str(number), *(_percent(runs[arm, seed]["test_accuracy"]) for arm in arms)))
    rows.append(("average", *(_percent(results["arms"][arm]["mean"]) for arm in arms)))
    if results["runs"][0]["focus"]["classes"]:
        rows.append(("mislabels in focus", *(_focus(results["arms"][arm]) for arm in arms)))
    return _table(("test", *arms), rows)


def contrast_lines(results: dict[str, Any]) -> list[str]:
    """Each difference with its interval and verdict, in points."""
    lines = []
    for item in results["contrasts"]:
        low, high = (100 * value for value in item["ci95"])
        lines.append(
            f"{item['a']} − {item['b']}: {100 * item['difference']:+.2f} points "
            f"(95 % interval {low:+.2f} … {high:+.2f}): {item['verdict']}"
        )
    return lines


def speed_table(benchmark: dict[str, Any]) -> str:
    """How many times as fast the batched policies are as each other way, medians."""
    policies = benchmark["augmentation"]["comparisons"]
    others = list(next(iter(policies.values()))["ratios"])
    rows = []
    for name, found in policies.items():
        rows.append((name, *(f"{found['ratios'][other]['median']:.1f}×" for other in others)))
    return _table(("policy", *(other.removeprefix("batched : ") for other in others)), rows)


def time_table(runs: list[dict[str, Any]]) -> str:
    """One row for each way and length, quick ones first: accuracies and seconds."""
    groups = defaultdict(list)
    for run in sorted(runs, key=lambda run: run["seed"]):
        name = run["method"].removesuffix(" preset")
        groups[name, run["epochs"], (run["commit"] or "unknown")[:7]].append(run)
    rows = []
    for (method, epochs, commit), found in groups.items():
        accuracies, seconds = ([run[key] for run in found] for key in ("accuracy", "seconds"))
        single, span = "one run", ""
        if len(found) > 1:
            single = ", ".join(map(_percent, accuracies))
            span = f" ({min(seconds):.0f} to {max(seconds):.0f})"
        average, time = f"**{_percent(mean(accuracies))}**", f"{mean(seconds):.0f}{span}"
        row = (f"`{method}`", f"{epochs:g}", average, single, time, f"`{commit}`")
        rows.append((mean(seconds), row))
    titles = ("trained as", "epochs", "mean, %", "runs, %", "seconds a run", "commit")
    return _table(titles, [row for _, row in sorted(rows)])


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = (titles, ("---",) * len(titles), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _focus(arm: dict[str, Any]) -> str:
    count = arm["focus_missed_mean"] + arm["focus_claimed_mean"]
    share = arm["focus_share_of_errors"]
    # a run without errors has no share of them
    return f"{count:.0f}" if share is None else f"{count:.0f} ({100 * share:.0f} % of all)"


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    if sys.argv[1].endswith(".jsonl"):
        print(time_table([json.loads(line) for line in text.splitlines()]))
    elif "augmentation" in (found := json.loads(text)):
        print(speed_table(found))
    else:
        print(accuracy_table(found), *contrast_lines(found), focus_sentence(found), sep="\n")
