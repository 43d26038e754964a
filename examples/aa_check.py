"""Does the verdict stay silent on real training? The baseline against itself with other seeds.

Run: python examples/aa_check.py [--comparisons 20] [--runs 3]
Both arms are the same, so every "better" or "worse" is false; of 20 comparisons about one may be.
Goes on where it was stopped.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from kept_runs import KeptRuns
from numpy.typing import NDArray

from fmnist_aug.comparison import contrast, load_splits, resolve_config
from fmnist_aug.training import train_model

RESULTS = Path(__file__).parent / "results" / "aa-check.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description="Baseline against itself.")
    parser.add_argument("--comparisons", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3, help="of each arm")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--epochs", type=float, help="default: the preset's")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    config = resolve_config(
        options.dataset, preset="smoke", epochs=options.epochs, arms=["baseline"]
    )
    train, test = load_splits(config, None)
    kept = KeptRuns(
        options.out,
        {
            "settings": dataclasses.asdict(config.settings),
            "fingerprints": [train.fingerprint(), test.fingerprint()],
        },
        test.labels,
    )

    def correct(seed: int) -> NDArray[np.bool_]:
        def predict() -> tuple[NDArray[np.int64], float]:
            trained = train_model(train, config.settings, seed=seed, hardware=config.hardware)
            return trained.classifier.predict(test.images), trained.seconds

        return kept.predictions("baseline", seed, predict) == test.labels

    false = 0
    for number in range(options.comparisons):
        first = 2 * options.runs * number
        a, b = (
            np.stack([correct(first + arm * options.runs + run) for run in range(options.runs)])
            for arm in (0, 1)
        )
        found = contrast(a, b)
        false += found.verdict != "no evidence"
        print(
            f"{number + 1:>3}: {100 * found.difference:+.2f} points "
            f"({100 * found.ci95[0]:+.2f} … {100 * found.ci95[1]:+.2f}), p {found.p_value:.3f}: "
            f"{found.verdict}",
            flush=True,
        )
    print(f"false verdicts: {false} of {options.comparisons}")


if __name__ == "__main__":
    main()
