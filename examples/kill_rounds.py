"""Kill a comparison at random moments, again and again, and see that its results don't change.

    python examples/kill_rounds.py --rounds 100

A comparison on a slice of Fashion-MNIST is run once unbroken. Then it is started, killed
(SIGKILL) after a random part of the time that the unbroken one took, and started again in the same
folder, until it ends; its results must equal the unbroken ones but for times and environment.
Then the next folder, until there were so many rounds, that is kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fmnist_aug import compare, load_dataset
from fmnist_aug.data import write_idx_folder

OPTIONS: dict[str, Any] = {
    "preset": "smoke",
    "epochs": 0.5,
    "runs": 1,
    "jobs": 1,
    "pairs": "0:6",
    "device": "cpu",
    "precision": "fp32",
}


def start(data: Path, out: Path) -> int:
    """Fork a process that compares; forking saves the seconds that importing torch takes."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        compare(data, out=out, **OPTIONS)
        code = 0
    finally:
        os._exit(code)


def ends_within(child: int, seconds: float) -> bool:
    """Wait for a process; kill it when the time is over. Whether it ended by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if status:
                sys.exit(f"the comparison failed (status {status})")
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def figures(folder: Path) -> dict[str, Any]:
    """What must not change: all results but times and environment."""
    results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    del results["environment"]
    for run in results["runs"]:
        del run["train_seconds"]
    return results


def main() -> None:
    """Run the rounds and print how many comparisons ended equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="How many kills.")
    parser.add_argument("--seconds", type=float, default=1e9, help="Stop after this time.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    stop = time.monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for split, size in (("train", 300), ("test", 150)):
            data = load_dataset("fashion-mnist", split).subset(np.arange(size))
            write_idx_folder(data, base / "data")
        started = time.monotonic()
        ends_within(start(base / "data", base / "unbroken"), 1e9)
        whole = time.monotonic() - started
        expected = figures(base / "unbroken")
        kills = ended = 0
        while kills < arguments.rounds and time.monotonic() < stop:
            out = base / f"round-{ended}"
            while not ends_within(start(base / "data", out), moments.uniform(0, whole)):
                kills += 1
                if kills >= arguments.rounds or time.monotonic() >= stop:
                    ends_within(start(base / "data", out), 1e9)
                    break
            if figures(out) != expected:
                sys.exit(f"after {kills} kills the results differ: {out}")
            if litter := list(out.rglob("*.partial")):
                sys.exit(f"left behind: {litter}")
            ended += 1
    print(
        f"{kills} kills (seed {arguments.seed}, an unbroken comparison took {whole:.1f} s): "
        f"{ended} of {ended} comparisons ended with equal results"
    )


if __name__ == "__main__":
    main()
