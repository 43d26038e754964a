"""``fmnist-aug data``: what is in a data set, is it whole, and writing it to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fmnist_aug.cli.options import debug_option
from fmnist_aug.text import clean, plain

_dataset = click.option(
    "--dataset", default="fashion-mnist", metavar="NAME|PATH", help="As for compare."
)
_data_dir = click.option(
    "--data-dir",
    type=click.Path(),
    help="Folder in which named sets are looked for before the packaged ones.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")


@click.group()
def data() -> None:
    """Data sets: info, verify, export."""


@data.command()
@_dataset
@_data_dir
@_as_json
@debug_option
def info(dataset: str, data_dir: str | None, as_json: bool, debug: bool) -> None:
    """Show sizes, classes and fingerprint of a data set."""
    import numpy as np

    splits: dict[str, Any] = {}
    for loaded in _load_both(dataset, data_dir):
        counts = np.bincount(loaded.labels, minlength=loaded.num_classes).tolist()
        splits[loaded.split] = {
            "images": len(loaded),
            "shape": list(loaded.images.shape[1:]),
            "per_class": dict(zip(loaded.class_names, counts, strict=True)),
            "fingerprint": loaded.fingerprint(),
        }
    card = loaded.card
    value = {
        "dataset": card.title,
        "licence": card.licence,
        "flip": card.flip,
        "shift": card.shift,
        "splits": splits,
    }
    if as_json:
        click.echo(json.dumps(value, indent=2))
        return
    click.echo(f"{clean(card.title)} (licence: {card.licence})")
    flips = "may be mirrored" if card.flip else "must not be mirrored"
    moves = f"may be moved by {card.shift} pixels" if card.shift else "are not moved"
    click.echo(f"images {flips} and {moves}")
    for name, split in splits.items():
        shape = " × ".join(map(str, split["shape"]))
        click.echo(f"{name}: {split['images']} images of {shape}")
        click.echo(f"  fingerprint {split['fingerprint']}")
        for label, (class_name, count) in enumerate(split["per_class"].items()):
            click.echo(f"  {label:>3} {clean(class_name)}: {count}")


@data.command()
@_dataset
@_data_dir
@_as_json
@debug_option
def verify(dataset: str, data_dir: str | None, as_json: bool, debug: bool) -> None:
    """Read every byte of a data set and check it; official sets by their SHA-256."""
    from fmnist_aug.data import NAMED_DATASETS, find_dataset_files

    checked = {}
    for loaded in _load_both(dataset, data_dir):
        checked[loaded.split] = {"images": len(loaded), "fingerprint": loaded.fingerprint()}
        card = loaded.card
    # a folder with the published files has their card, once their checksums were right
    official = card in [named.card for named in NAMED_DATASETS.values()]
    if as_json:
        click.echo(json.dumps({"dataset": dataset, "official": official, "splits": checked}))
        return
    if dataset in NAMED_DATASETS:
        paths = find_dataset_files(dataset, "train", data_dir)
        click.echo(f"{dataset}: the official bytes, in {clean(paths[0].parent)}")
    elif official:
        click.echo(f"{clean(dataset)}: the official bytes of {card.title}")
    else:
        click.echo(
            f"{clean(dataset)}: readable and consistent (no published checksum to compare with)"
        )
    for name, split in checked.items():
        click.echo(f"  {name}: {split['images']} images, fingerprint {split['fingerprint']}")


@data.command()
@click.argument("folder", type=click.Path())
@_dataset
@_data_dir
@_as_json
@debug_option
def export(folder: str, dataset: str, data_dir: str | None, as_json: bool, debug: bool) -> None:
    """Write a data set as four plain IDX files into FOLDER."""
    from fmnist_aug.data import NAMED_DATASETS, write_idx_folder
    from fmnist_aug.errors import UsageError

    # a folder may well be called like the packaged data set that it shall hold
    if dataset not in NAMED_DATASETS and Path(folder).resolve() == Path(dataset).resolve():
        raise UsageError(f"the files would hide what is in {folder}; choose another folder")
    written = [
        str(path)
        for loaded in _load_both(dataset, data_dir)
        for path in write_idx_folder(loaded, Path(folder))
    ]
    click.echo(json.dumps({"files": written}) if as_json else plain("\n".join(written)))


COMMANDS = (data,)


def _load_both(dataset: str, data_dir: str | None) -> list[Any]:
    from fmnist_aug.data import load_dataset

    return [load_dataset(dataset, split, data_dir=data_dir) for split in ("train", "test")]
