"""Milliseconds to start, against importing click alone."""

import subprocess
import sys
import time
from typing import Any

from benchmarking.timing import Options, compared, in_turns

COMMANDS = {
    "fmnist-aug --help": ("-m", "fmnist_aug", "--help"),
    "import fmnist_aug": ("-c", "import fmnist_aug"),
    "import click": ("-c", "import click"),
    "python": ("-c", "pass"),
}


def measure(options: Options) -> dict[str, Any]:
    figures = in_turns(
        {
            name: lambda arguments=arguments: milliseconds(arguments)
            for name, arguments in COMMANDS.items()
        },
        3 * options.repeats,
    )
    comparison = compared(figures, "import click", "ms")
    comparison["ratios"] = {
        # how many times as long as click, not how many times as fast
        f"{name} : import click": value
        for name, value in (
            (name.split(" : ")[1], value)
            for name, value in compared(figures, "import click", "ms", False)["ratios"].items()
        )
    }
    return {"comparisons": {"start": comparison}}


def milliseconds(arguments: tuple[str, ...]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - started)
