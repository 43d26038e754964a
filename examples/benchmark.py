"""How fast is it, against the loop that people write? A table, and JSON with --out.

Run: python examples/benchmark.py [--only training,growth]
Everything is measured in turns in one run, and ratios are taken turn by turn, so that a machine
that is busy now and idle later does not favour either side. `--only accuracy` measures seconds of
training to 93, 94 and 95 %; it takes hours, goes on where it was stopped, and can be done in parts:
`--methods "fast preset" --lengths 4,5 --runs 3`.
Needs: pip install 'fmnist-aug[benchmark]' (what is missing is skipped, and said).
"""

import argparse
import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarking.timing import Options, print_section
from fmnist_aug.comparison.environment import describe_environment
from fmnist_aug.training import choose_hardware

SECTIONS = (
    "startup",
    "augmentation",
    "convolution",
    "precision",
    "replay",
    "training",
    "growth",
    "accuracy",
)
BY_DEFAULT = SECTIONS[:-1]


def read_options() -> tuple[Options, list[str], Path | None]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(BY_DEFAULT), help=", ".join(SECTIONS))
    parser.add_argument("--repeats", type=int, default=7, help="turns of each contender (7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="a few steps: to see that it runs")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument(
        "--accuracy-file",
        type=Path,
        default=Path("runs/accuracy.jsonl"),
        help="one line for each finished training (runs/accuracy.jsonl)",
    )
    parser.add_argument("--methods", help="of accuracy, by name, separated by semicolons (all)")
    parser.add_argument("--lengths", help="of accuracy, in epochs (each method's own)")
    parser.add_argument("--runs", type=int, default=5, help="of accuracy, each length (5)")
    given = parser.parse_args()
    sections = [name for name in given.only.split(",") if name]
    if unknown := [name for name in sections if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]!r}; choose from {', '.join(SECTIONS)}")
    methods = tuple(name.strip() for name in (given.methods or "").split(";") if name.strip())
    if methods:
        from benchmarking.accuracy import LENGTHS  # imports torchvision

        if unknown := [name for name in methods if name not in LENGTHS]:
            parser.error(f"no method {unknown[0]!r}; choose from {'; '.join(LENGTHS)}")
    options = Options(
        quick=given.quick,
        repeats=2 if given.quick else given.repeats,
        threads=given.threads,
        accuracy_file=given.accuracy_file,
        methods=methods,
        lengths=tuple(float(length) for length in (given.lengths or "").split(",") if length),
        runs=given.runs,
    )
    return options, sections, given.out


def describe(options: Options) -> dict[str, object]:
    found: dict[str, object] = {**describe_environment(choose_hardware()), "quick": options.quick}
    for package in ("torchvision", "kornia", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def main() -> None:
    options, sections, out = read_options()
    torch.set_num_threads(options.threads)
    results: dict[str, object] = {"environment": describe(options)}
    print(json.dumps(results["environment"]))
    for name in sections:
        section = import_module(f"benchmarking.{name}").measure(options)
        results[name] = section
        print_section(name, section)
    if out is not None:
        out.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
