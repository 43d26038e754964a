"""Try settings and plans on held-out training images, as those of the presets were chosen.

    python examples/held_out_trials.py --arm targeted --plan '{"keep": 0.5}' --epochs 3
    python examples/held_out_trials.py --arm train --preset strong-cpu --settings '{"ema": 0}'

trains on 50,000 training images, tests on the other 10,000 and appends a line of JSON to
``held_out_trials.jsonl``. The test set is not even read. A trial that was stopped goes on from its
last epoch if it is started again. The trials behind the presets are in
``examples/results/held_out_trials.jsonl``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from fmnist_aug import ConfusionPlan, ConfusionReport, load_dataset
from fmnist_aug.comparison import arm_treatment, base_augmentation, make_plan, measure_confusions
from fmnist_aug.comparison.results import focus_figures
from fmnist_aug.data import held_out_split
from fmnist_aug.models import count_parameters
from fmnist_aug.training import get_preset, train_model

HELD_OUT = 1 / 6
SPLIT_SEED = 1


@click.command(context_settings={"show_default": True})
@click.option("--dataset", default="fashion-mnist")
@click.option("--preset", default="fast")
@click.option("--arm", default="targeted", help="As in compare, or train: no plan.")
@click.option("--epochs", type=float, help="Length.  [default: the preset's]")
@click.option("--settings", default="{}", help="Changes to the preset's settings, as JSON.")
@click.option("--plan", "changes", default="{}", help="Changes to the plan, as JSON.")
@click.option("--keep", type=float, default=0.5, help="For --arm train.")
@click.option("--seed", type=int, default=0)
@click.option("--images", type=int, help="Only so many training images, for a quick look.")
@click.option("--out", type=click.Path(path_type=Path), default="held_out_trials.jsonl")
def main(
    dataset: str,
    preset: str,
    arm: str,
    epochs: float | None,
    settings: str,
    changes: str,
    keep: float,
    seed: int,
    images: int | None,
    out: Path,
) -> None:
    """Train one network on a part of the training images and test it on the rest of them."""
    train = load_dataset(dataset, "train")
    if images is not None:
        train = train.subset(np.arange(images))
    fit, rest = held_out_split(train, HELD_OUT, SPLIT_SEED)
    fitting, held_out = train.subset(fit), train.subset(rest)
    chosen = dataclasses.replace(get_preset(preset).settings, **json.loads(settings))
    chosen = dataclasses.replace(chosen, epochs=epochs or chosen.epochs)
    base = base_augmentation(fitting, chosen.augment)
    if arm == "train":
        plan = ConfusionPlan.empty(train.class_names, keep=keep)
    else:
        # the plan's own probe holds out a part of the fitting images
        probe = measure_confusions(fitting, chosen, epochs=1, base=base)
        plan = dataclasses.replace(make_plan(probe, fitting), **json.loads(changes))
        counts = np.bincount(fitting.labels, minlength=fitting.num_classes).tolist()
        base, plan = arm_treatment(arm, plan, base, counts, seed)
    started = time.process_time()
    identity = repr((chosen, plan, base, seed, fitting.fingerprint()))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    state = out.with_name(f"{out.stem}-{digest}.state")
    trained = train_model(fitting, chosen, base=base, plan=plan, seed=seed, state_path=state)
    seconds = time.process_time() - started
    report = ConfusionReport.from_predictions(
        held_out.labels, trained.classifier.predict_logits(held_out.images), train.class_names
    )
    line: dict[str, Any] = {
        "dataset": train.card.name,
        "arm": arm,
        "preset": preset,
        "epochs": chosen.epochs,
        "settings": json.loads(settings),
        "plan": {"keep": plan.keep, "policy": plan.policy, "extra_draws": plan.extra_draws},
        "seed": seed,
        "accuracy": report.accuracy,
        "per_class_recall": [round(value, 4) for value in report.recall],
        "focus": focus_figures(report, train.card.focus or plan.classes),
        "parameters": count_parameters(trained.classifier.model),
        "train_seconds": round(trained.seconds),
        "cpu_seconds": round(seconds),
        **dataclasses.asdict(trained.hardware),
    }
    with out.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    state.unlink(missing_ok=True)
    click.echo(json.dumps(line))


if __name__ == "__main__":
    main()
