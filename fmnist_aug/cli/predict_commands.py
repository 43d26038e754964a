"""``fmnist-aug predict`` and ``fmnist-aug export``: using a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmnist_aug.cli.options import EXPORT_FORMATS, output_options

if TYPE_CHECKING:
    from fmnist_aug.classifier import Classifier
    from fmnist_aug.prediction import Prediction


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--checkpoint",
    type=click.Path(),
    help="Checkpoint of train or compare.  [default: the newest here or under runs/]",
)
@click.option("--top", type=click.IntRange(1), default=3, help="How many classes to show.")
@click.option(
    "--invert/--no-invert",
    default=None,
    help="Look at the negative of all pictures, or of none.  [default: of those with a light "
    "background, if the checkpoint is of fashion-mnist or mnist, where backgrounds are black]",
)
@output_options
def predict(
    paths: tuple[str, ...],
    checkpoint: str | None,
    top: int,
    invert: bool | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Say what is on pictures of your own: PATH is a picture (png, jpg, …) or a folder."""
    from fmnist_aug.classifier import load_classifier
    from fmnist_aug.data import find_pictures
    from fmnist_aug.prediction import predict_pictures

    found = find_pictures(paths)
    path = Path(checkpoint) if checkpoint else newest_checkpoint(Path())
    classifier = load_classifier(path)
    if not quiet:
        trained_on = classifier.header.card or "an unknown data set"
        click.echo(f"checkpoint: {path} ({classifier.header.model}, {trained_on})", err=True)
    predictions = list(predict_pictures(classifier, found, top=top, invert=invert))
    if as_json:
        click.echo(json.dumps(_as_value(path, classifier, predictions), indent=2))
    else:
        _print(classifier, predictions)
        _say_inverted(predictions, invert)


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.option(
    "--format",
    "form",
    type=click.Choice(EXPORT_FORMATS),
    default="onnx",
    help="onnx needs the extra: pip install 'fmnist-aug[export]'.",
)
@click.option(
    "--out",
    type=click.Path(),
    help="File to write.  [default: CHECKPOINT's name, .onnx or .pt2]",
)
@output_options
def export(
    checkpoint: str, form: str, out: str | None, as_json: bool, quiet: bool, debug: bool
) -> None:
    """Write a CHECKPOINT for other runtimes, with a model card beside it.

    The graph takes uint8 images (N, H, W, C), any number of them, and gives logits (N, classes);
    normalisation and test-time views are inside. It is compared with PyTorch before it is kept.
    """
    from fmnist_aug.classifier import load_classifier
    from fmnist_aug.errors import UsageError
    from fmnist_aug.export import SUFFIXES, export_classifier
    from fmnist_aug.files import check_writable, write_text
    from fmnist_aug.model_card import card_path, model_card

    classifier = load_classifier(checkpoint)
    name = Path(checkpoint)
    if name.suffix in (".safetensors", *SUFFIXES.values()):  # else it is a part of the name
        name = name.with_suffix("")
    path = Path(f"{name}{SUFFIXES[form]}") if out is None else Path(out)
    for written in (path, card_path(path)):
        check_writable(written)
    if path.exists() and path.samefile(checkpoint):
        raise UsageError(f"{path} is the checkpoint itself; name another file with --out")
    difference = export_classifier(classifier, path, form)
    card = card_path(path)
    write_text(card, model_card(classifier, path.name, form=form))
    if as_json:
        value = {"file": str(path), "format": form, "largest_difference": difference}
        click.echo(json.dumps({**value, "card": str(card)}))
    else:
        click.echo(f"file: {path}\nmodel card: {card}")
        click.echo(f"largest difference to PyTorch's logits, on noise: {difference:.1e}")


def newest_checkpoint(folder: Path) -> Path:
    """The checkpoint in ``folder`` or in a comparison under its ``runs`` that was written last.

    Raises:
        UsageError: there is none.
    """
    from fmnist_aug.errors import UsageError

    found = [*folder.glob("*.safetensors"), *folder.glob("runs/*/checkpoints/*.safetensors")]
    if not found:
        raise UsageError(
            "no checkpoint here or under runs/; make one with fmnist-aug train, or name one with "
            "--checkpoint FILE"
        )
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path))


def _as_value(path: Path, classifier: Classifier, predictions: list[Prediction]) -> dict[str, Any]:
    return {
        "checkpoint": str(path),
        "confusions_source": classifier.header.confusions_source or None,
        "predictions": [
            {
                "path": str(item.path),
                "class": item.classes[0][0],
                "probability": item.classes[0][1],
                "classes": dict(item.classes),
                "inverted": item.inverted,
                "often_confused_with": [
                    {
                        "class": other.class_name,
                        "images": other.images,
                        "share": other.share,
                        "ci95": list(other.ci95),
                    }
                    for other in item.confused_with
                ],
            }
            for item in predictions
        ],
    }


def _print(classifier: Classifier, predictions: list[Prediction]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from fmnist_aug.text import clean

    measured = classifier.header.confusion_report is not None
    # paths are never cut: they tell the rows apart
    columns = ["class", "or else", *(["often confused with"] if measured else [])]
    table = Table(Column("picture", overflow="fold"), *columns)
    for item in predictions:
        best, *others = [f"{clean(name)} {probability:.1%}" for name, probability in item.classes]
        cells = [clean(item.path), best, "\n".join(others)]
        if measured:
            mistaken = [
                f"{clean(other.class_name)} ({other.share:.1%})" for other in item.confused_with
            ]
            cells.append("\n".join(mistaken) or "–")
        table.add_row(*map(Text, cells))
    console = Console()
    console.print(table)
    if measured:
        console.print(
            "often confused with: what held-out images with that prediction really were, as a "
            f"share of them; from {clean(classifier.header.confusions_source)}",
            markup=False,
            highlight=False,
        )
    else:
        console.print(
            "This checkpoint holds no confusions measured on held-out images (those that compare "
            "writes do), so what it is unsure about is only seen from the next probabilities.",
            markup=False,
            highlight=False,
        )


def _say_inverted(predictions: list[Prediction], invert: bool | None) -> None:
    from fmnist_aug.report.wording import plural

    inverted = sum(item.inverted for item in predictions)
    if inverted:
        why = "asked for" if invert else "light background; the training images' is black"
        other = "" if invert else "; --no-invert looks at them as they are"
        click.echo(
            f"inverted {inverted} of {plural(len(predictions), 'picture')} before predicting "
            f"({why}){other}"
        )


COMMANDS = (predict, export)
