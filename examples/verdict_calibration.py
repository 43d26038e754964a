"""How often the verdict of a comparison is wrong, and what it finds, on simulated runs.

Run: python examples/verdict_calibration.py [--simulations 400]
Each simulation draws a new set of test images with their own difficulty and new runs of two arms,
so both kinds of variation are there. Where the arms are equally good over the population of
images, "better" or "worse" is a false verdict; where a is 1.5 points better, "better" is right.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.comparison import contrast

DIFFERENCE = 0.015


@dataclass(frozen=True)
class Scenario:
    """How two arms and their test set come about.

    Attributes:
        name: for the table.
        runs: of each arm.
        images: in the test set.
        accuracy: of both arms, over the population of images.
        run_std: by how much the accuracy of arm b's runs varies beyond chance by image.
        run_std_a: likewise for arm a, if it differs.
        crossed: a tenth of the images is easier for one arm and a tenth for the other.
        shared: whether the two runs of a seed vary together.
    """

    name: str
    runs: int = 3
    images: int = 10_000
    accuracy: float = 0.94
    run_std: float = 0.0015
    run_std_a: float | None = None
    crossed: bool = False
    shared: bool = False


SCENARIOS = (
    Scenario("3 runs of 10,000 images, 94 %"),
    Scenario("the arms err on different images", crossed=True),
    Scenario("2 runs", runs=2),
    Scenario("5 runs", runs=5),
    Scenario("20 runs of 1,000 images", runs=20, images=1000),
    Scenario("20 runs, different images", runs=20, images=1000, crossed=True),
    Scenario("1,000 images", images=1000),
    Scenario("1,000, different images", images=1000, crossed=True),
    Scenario("300 images", images=300),
    Scenario("80 %", accuracy=0.8),
    Scenario("99.7 %", accuracy=0.997),
    Scenario("99.7 %, 300 images", accuracy=0.997, images=300),
    Scenario("runs vary by 0.5 points", run_std=0.005),
    Scenario("one arm varies by 0.5 points", run_std_a=0.005),
    Scenario("seeds vary both arms alike", run_std=0.005, shared=True),
    Scenario("20 such seeds", runs=20, images=1000, run_std=0.005, shared=True),
)


def simulate(
    scenario: Scenario, difference: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """One comparison: which images arms a and b had right, bool (runs, images) each."""
    shape = scenario.runs, scenario.images
    # beta with a total weight of 1/2: most images are easy, some hopeless, few between
    easy = rng.beta(scenario.accuracy / 2, (1 - scenario.accuracy) / 2, scenario.images)
    chances = [easy.copy(), easy.copy()]
    if scenario.crossed:
        tenth = rng.random(scenario.images)
        for chance, sign in zip(chances, (1, -1), strict=True):
            chance[tenth < 0.1] = 0.6 + 0.2 * sign
            chance[(tenth >= 0.1) & (tenth < 0.2)] = 0.6 - 0.2 * sign
    room = 1 - chances[0]
    chances[0] += difference * room / room.mean()
    effects = rng.standard_normal((2, scenario.runs, 1))
    if scenario.shared:
        effects[0] = effects[1]
    effects[0] *= scenario.run_std if scenario.run_std_a is None else scenario.run_std_a
    effects[1] *= scenario.run_std
    first, second = (
        rng.random(shape, np.float32) < chance + effect
        for chance, effect in zip(chances, effects, strict=True)
    )
    return first, second


@dataclass(frozen=True)
class Calibration:
    """What came of many simulations; shares of them.

    Attributes:
        false: ended in "better" or "worse" though both arms are equally good.
        covered: whose interval held the true difference 0.
        found: ended in "better" where a is 1.5 points better.
        half_width: half the interval's width, median.
    """

    false: float
    covered: float
    found: float
    half_width: float


def calibrate(scenario: Scenario, simulations: int, seed: int = 0) -> Calibration:
    """Simulate a scenario many times, with equal arms and with a true difference."""
    rng = np.random.default_rng(seed)
    equal = [contrast(*simulate(scenario, 0.0, rng)) for _ in range(simulations)]
    better = [contrast(*simulate(scenario, DIFFERENCE, rng)) for _ in range(simulations)]
    return Calibration(
        false=float(np.mean([item.verdict != "no evidence" for item in equal])),
        covered=float(np.mean([item.ci95[0] <= 0 <= item.ci95[1] for item in equal])),
        found=float(np.mean([item.verdict == "better" for item in better])),
        half_width=float(np.median([(item.ci95[1] - item.ci95[0]) / 2 for item in equal])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibration of the verdict.")
    parser.add_argument("--simulations", type=int, default=400)
    simulations = parser.parse_args().simulations
    print(f"{'of ' + str(simulations) + ' comparisons, %':<34}false  covered  found  ± points")
    for scenario in SCENARIOS:
        result = calibrate(scenario, simulations)
        # a gain of 1.5 points is more than there is to gain at 99.7 %
        room = 1 - scenario.accuracy > DIFFERENCE
        found = f"{100 * result.found:7.1f}" if room else "      –"
        print(
            f"{scenario.name:<34}{100 * result.false:5.1f}{100 * result.covered:9.1f}{found}"
            f"{100 * result.half_width:10.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
