"""What the original's author said of other sizes of his network, tested.

    python examples/original_ablation.py

He found 91–93 % easy to reach with 200,000 parameters, and that smaller fully connected layers or
larger pooling always fall below 94 %. Each variant is trained as ``--preset original`` trains, on
the images as they are, and tested after its last epoch; nothing is chosen by these figures. A
finished run is kept in ``--out`` and a stopped one goes on from its last epoch, so the same command
again goes on; run one process at a time.
"""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import click
import numpy as np
import torch
from kept_runs import KeptRuns
from numpy.typing import NDArray

from fmnist_aug import create_model, load_dataset
from fmnist_aug.data import stratified_slice
from fmnist_aug.models import MODELS, count_parameters
from fmnist_aug.training import choose_hardware, get_preset, train_model

VARIANTS = tuple(name for name in MODELS if name.startswith("baseline-cnn"))


def table(accuracies: dict[str, list[float]], parameters: dict[str, int]) -> str:
    """One row a variant: its parameters, its mean accuracy and each run's, in %."""
    rows = ["| network | parameters | mean | runs |", "| --- | --- | --- | --- |"]
    for variant, values in accuracies.items():
        runs = ", ".join(f"{100 * value:.2f}" for value in values)
        mean = f"{100 * statistics.mean(values):.2f}"
        rows.append(f"| {variant} | {parameters[variant]:,} | {mean} | {runs} |")
    return "\n".join(rows)


@click.command(context_settings={"show_default": True})
@click.option("--dataset", default="fashion-mnist")
@click.option("--epochs", type=float, help="Length.  [default: the preset's]")
@click.option(
    "--variants", multiple=True, type=click.Choice(VARIANTS), help="Repeatable.  [default: all]"
)
@click.option("--seeds", multiple=True, type=int, default=(0, 1, 2), help="Repeatable.")
@click.option("--images", type=int, help="Only so many images of each split, for a quick look.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(__file__).parent / "results" / "original_ablation.jsonl",
    show_default="examples/results/original_ablation.jsonl",
)
def main(
    dataset: str,
    epochs: float | None,
    variants: tuple[str, ...],
    seeds: tuple[int, ...],
    images: int | None,
    out: Path,
) -> None:
    """Train and test variants of the original network, and print their table."""
    train, test = (
        stratified_slice(load_dataset(dataset, split), images, random_state=0)
        for split in ("train", "test")
    )
    settings = get_preset("original").settings
    settings = dataclasses.replace(settings, epochs=epochs or settings.epochs)
    hardware = choose_hardware()
    identity = {
        "settings": {**dataclasses.asdict(settings), "model": "its variant's"},
        "hardware": dataclasses.asdict(hardware),
        "fingerprints": [train.fingerprint(), test.fingerprint()],
    }
    kept = KeptRuns(out, identity, test.labels)

    def run(variant: str, seed: int) -> float:
        state = out.with_name(f"{out.stem}-{variant}-{seed}.state")

        def predict() -> tuple[NDArray[np.int64], float]:
            trained = train_model(
                train,
                dataclasses.replace(settings, model=variant),
                seed=seed,
                hardware=hardware,
                state_path=state,
            )
            return trained.classifier.predict(test.images), trained.seconds

        predicted = kept.predictions(variant, seed, predict)
        state.unlink(missing_ok=True)
        accuracy = float((predicted == test.labels).mean())
        click.echo(f"{variant} (seed {seed}): {100 * accuracy:.2f} %", err=True)
        return accuracy

    # seed by seed, so that an ablation that is stopped early still has a run of each
    accuracies: dict[str, list[float]] = {variant: [] for variant in variants or VARIANTS}
    for seed in seeds:
        for variant, values in accuracies.items():
            values.append(run(variant, seed))
    parameters = {}
    for variant in accuracies:
        with torch.device("meta"):
            model = create_model(
                variant, train.num_classes, train.images.shape[3], train.image_size
            )
        parameters[variant] = count_parameters(model)
    click.echo(table(accuracies, parameters))


if __name__ == "__main__":
    main()
