"""Does the verdict find it where targeting helps? Ten comparisons on digits with a narrow view.

Run: python examples/confusing_comparisons.py [--comparisons 10] [--runs 3]
Each comparison trains uniform and targeted with three seeds of its own on the data set of
confusing_digits.py, at equal steps, and asks for the verdict. Goes on where it was stopped: each
finished run is a line of runs.jsonl. Writes runs.jsonl, plan.json and table.md into --out.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from confusing_digits import PAIR, narrow_view_digits
from kept_runs import ArmRuns

from fmnist_aug import ConfusionPlan
from fmnist_aug.comparison import (
    base_augmentation,
    contrast,
    make_plan,
    measure_confusions,
    resolve_config,
)
from fmnist_aug.comparison.plan_files import load_plan
from fmnist_aug.data import ImageDataset
from fmnist_aug.training import Hardware, TrainSettings

ARMS = ("targeted", "uniform")
RESULTS = Path(__file__).parent / "results" / "confusing-digits"


def make_digits_plan(
    train: ImageDataset, settings: TrainSettings, hardware: Hardware, kept: Path
) -> ConfusionPlan:
    """The plan of an earlier part, or one from held-out training images.

    Who makes it knows that fours and nines are rare and will come turned and moved, so the pair is
    given, and the policy, and that it has to be strong.
    """
    if kept.exists():
        return load_plan(kept, train.card.name)
    found = measure_confusions(train, settings, base=base_augmentation(train), hardware=hardware)
    plan = make_plan(found, train, f"{PAIR[0]}:{PAIR[1]}", "geometric")
    plan = dataclasses.replace(
        plan, strength=4.0, extra_draws=tuple(8 * draws for draws in plan.extra_draws)
    )
    kept.write_text(plan.to_json() + "\n")
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(description="Where targeting helps.")
    parser.add_argument("--comparisons", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="of each arm")
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    config = resolve_config("mnist", preset="smoke", epochs=options.epochs)
    train, test = narrow_view_digits()
    options.out.mkdir(parents=True, exist_ok=True)
    plan = make_digits_plan(train, config.settings, config.hardware, options.out / "plan.json")
    runs = ArmRuns(
        options.out / "runs.jsonl",
        train,
        test,
        config.settings,
        base_augmentation(train),
        plan,
        config.hardware,
    )

    lines = [
        "| comparison, seeds | targeted, % | uniform, % | difference, points | 95 % interval | p | "
        "verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    better = 0
    for number in range(options.comparisons):
        first = options.seed + options.runs * number
        seeds = range(first, first + options.runs)
        targeted, uniform = (
            np.stack([runs.predictions(arm, seed) == test.labels for seed in seeds]) for arm in ARMS
        )
        found = contrast(targeted, uniform)
        better += found.verdict == "better"
        low, high = (100 * value for value in found.ci95)
        lines.append(
            f"| {number + 1}, {seeds[0]}–{seeds[-1]} | {100 * targeted.mean():.2f} | "
            f"{100 * uniform.mean():.2f} | {100 * found.difference:+.2f} | "
            f"{low:+.2f} … {high:+.2f} | {found.p_value:.4f} | {found.verdict} |"
        )
        print(lines[-1], flush=True)
    lines += ["", f"“better” in {better} of {options.comparisons} comparisons."]
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[-2:]))


if __name__ == "__main__":
    main()
