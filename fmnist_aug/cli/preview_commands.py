"""``fmnist-aug preview``: a sheet of what the augmentations do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fmnist_aug.cli.options import POLICIES, data_options, output_options


@click.command()
@data_options
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice(POLICIES),
    help="Only these policies (repeatable).  [default: all]",
)
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME|NUMBER",
    help="Samples of these classes (repeatable).  [default: the data set's known pair, else the "
    "first two]",
)
@click.option("--copies", type=click.IntRange(1, 20), default=8, help="Augmented copies of each.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of samples and augmentations.")
@click.option("--out", type=click.Path(), default="preview.png", help="PNG to write.")
@output_options
def preview(
    policies: tuple[str, ...],
    classes: tuple[str, ...],
    copies: int,
    seed: int,
    out: str,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **data: Any,
) -> None:
    """Write a sheet of what the augmentation policies do to real training images."""
    from fmnist_aug.augment import get_policy
    from fmnist_aug.comparison.samples import policy_samples
    from fmnist_aug.confusion import class_index
    from fmnist_aug.data import load_dataset
    from fmnist_aug.files import check_writable, write_bytes
    from fmnist_aug.report.sheets import SheetRow, image_sheet

    path = Path(out)
    check_writable(path)
    train = load_dataset(data.pop("dataset"), "train", **data)
    names = train.class_names
    labels = [class_index(name, names) for name in classes] or list(
        train.card.focus or range(min(2, len(names)))
    )
    chosen = [get_policy(name) for name in policies or POLICIES if name != "none" or policies]
    samples = policy_samples(train, chosen, labels, copies=copies, seed=seed)
    rows = [
        SheetRow(
            images,
            f"{policy.name}: {policy.description}" if position == 0 else "",
            (names[label], *[""] * copies),
            first_apart=True,
        )
        for policy, stacks in samples
        for position, (label, images) in enumerate(stacks)
    ]
    title = f"{train.card.title}: originals, and what each policy makes of them"
    write_bytes(path, image_sheet(title, rows))
    if as_json:
        value = {"sheet": str(path), "policies": [policy.name for policy, _ in samples]}
        click.echo(json.dumps({**value, "classes": [names[label] for label in labels]}))
    else:
        click.echo(f"sheet: {path}")


COMMANDS = (preview,)
