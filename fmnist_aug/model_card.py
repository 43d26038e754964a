"""A page beside a checkpoint's weights: what it is, how to use it, what to beware of."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

from fmnist_aug.classifier import CheckpointHeader, Classifier
from fmnist_aug.data import NAMED_DATASETS
from fmnist_aug.models import count_parameters
from fmnist_aug.text import clean

_MOST_CLASSES = 30
_MOST_PAIRS = 5


def card_path(weights: Path) -> Path:
    """Where the card of a file lies: beside it, ``model.onnx.card.md`` for ``model.onnx``."""
    return weights.with_name(weights.name + ".card.md")


def model_card(
    classifier: Classifier,
    weights: str,
    facts: Mapping[str, object] | None = None,
    form: str | None = None,
) -> str:
    """The card, from the checkpoint's header alone and what else is known.

    Args:
        classifier: what the card is about.
        weights: file name of the weights.
        facts: further lines of the table, such as a test accuracy and how it was trained.
        form: of an export, as for `export_classifier`; None for a checkpoint.
    """
    header = classifier.header
    height, width = header.image_size
    colour = "grey" if len(header.mean) == 1 else "RGB"
    table = {
        "network": f"{header.model}, {count_parameters(classifier.model):,} parameters",
        "input": f"uint8 (N, {height}, {width}, {len(header.mean)}), 0–255, {colour}",
        "output": f"{len(header.class_names)} logits",
        "normalisation": f"mean {_numbers(header.mean)}, standard deviation {_numbers(header.std)}",
        "test-time views": f"{', '.join(header.views)}; their logits are averaged",
        "trained on": header.card or "unknown",
        "training data": f"SHA-256 `{header.fingerprint}`" if header.fingerprint else "unknown",
        **(facts or {}),
    }
    lines = [
        f"# {_escape(Path(weights).stem)}",
        "",
        f"An image classifier of {len(header.class_names)} classes, written by fmnist-aug.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {_escape(name)} | {_escape(value)} |" for name, value in table.items()),
        "",
        f"Classes: {_classes(header)}.",
        "",
        "## Use",
        "",
        *_usage(weights, form),
        "",
        "## What it mixes up",
        "",
        *_confusions(header),
        "",
        "## Limits",
        "",
        *_limits(header),
        "",
    ]
    return "\n".join(lines)


def _usage(weights: str, form: str | None) -> list[str]:
    if form == "onnx":
        code = [
            "import onnxruntime",
            "",
            f"session = onnxruntime.InferenceSession({weights!r})",
            '(logits,) = session.run(["logits"], {"images": images})',
        ]
    elif form == "torch-export":
        code = [
            "import torch",
            "",
            f"logits = torch.export.load({weights!r}).module()(torch.from_numpy(images))",
        ]
    else:
        code = [
            "from fmnist_aug import load_classifier",
            "",
            f"probabilities = load_classifier({weights!r}).predict_proba(images)",
        ]
    return [
        "```python",
        *code,
        "```",
        "",
        "`images` are as in the table. Normalisation and test-time views happen inside.",
    ]


def _confusions(header: CheckpointHeader) -> list[str]:
    report = header.confusion_report
    if report is None:
        return ["Not measured on held-out images (`fmnist-aug compare` does that)."]
    lines = [f"From {_escape(header.confusions_source)}:", ""]
    for pair in report.most_confused(_MOST_PAIRS):
        first, second = (_escape(report.class_names[label]) for label in (pair.first, pair.second))
        low, high = pair.ci95
        lines.append(
            f"- {first} and {second}: {pair.count} images, {pair.rate:.1%} of both classes "
            f"(95 %: {low:.1%} … {high:.1%})"
        )
    return lines if report.errors else ["Nothing: no error on the held-out images."]


def _limits(header: CheckpointHeader) -> list[str]:
    lines = [
        "It always answers with one of its classes, whatever the image shows, and its "
        "probabilities are not calibrated."
    ]
    named = NAMED_DATASETS.get(header.card)
    if named is not None and named.class_names == header.class_names:
        lines.append(
            f"{named.card.title} ({named.card.licence}) shows single things, centred before black; "
            "photographs are another kind of image, so expect more errors on them than on its "
            "test set."
        )
    return lines


def _classes(header: CheckpointHeader) -> str:
    names = [
        f"{label} {_escape(name)}" for label, name in enumerate(header.class_names[:_MOST_CLASSES])
    ]
    more = len(header.class_names) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _escape(value: object) -> str:
    """Class names come from folder names: nothing in them may act as Markdown or HTML."""
    text = html.escape(clean(value), quote=False)
    for character in "\\|[]*_#`":
        text = text.replace(character, f"\\{character}")
    return text
