"""The page: one HTML file that needs nothing else, neither a network nor a script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.dataset import ImageDataset
from fmnist_aug.report import summary, tables
from fmnist_aug.report.galleries import Mislabelled, always_wrong, image_png, strip_png
from fmnist_aug.report.wording import clean, interval, number, percent, plural

OPEN_ROWS = 24
"""Tables with more rows than this are folded until asked for."""


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Attributes:
        source: a ``data:`` address.
        text: what it shows, for those who can't see it.
        caption: the words below it.
        dark: the same for a dark page, if it differs.
    """

    source: str
    text: str
    caption: str = ""
    dark: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images of one arm under a heading."""

    title: str
    intro: str
    tiles: tuple[Picture, ...]


def render_page(
    results: summary.Results,
    test: ImageDataset,
    figures: Mapping[str, tuple[bytes, bytes]],
    mislabelled: Mapping[str, Sequence[Mislabelled]],
    logits: Mapping[tuple[str, int], NDArray[np.float32]],
    samples: Sequence[tuple[str, NDArray[np.uint8]]],
) -> str:
    """The whole page as HTML text.

    Args:
        results: the dictionary that results.json holds.
        test: the test images (N, H, W, C).
        figures: for each figure its PNG for a light and for a dark page.
        mislabelled: for each arm the images to show.
        logits: for each (arm, seed) float32 (N, K).
        samples: captions and stacks uint8 (rows, H, W, C), the original first.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fmnist_aug.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style = resources.files("fmnist_aug.report").joinpath("style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("template.html.j2").render(
        style=Markup(style),  # our own file, unlike everything else on the page
        style_hash=f"sha256-{digest}",
        title=f"{clean(results['dataset'])}: did targeted augmentation help?",
        dataset=clean(results["dataset"]),
        answer=summary.answer(results),
        facts=_facts(results),
        cards=_cards(results),
        accuracy=tables.accuracy_table(results),
        arms=tables.arms_table(results),
        contrasts=tables.contrasts_table(results),
        focus=tables.focus_table(results),
        focus_sentence=summary.focus_sentence(results),
        recall=tables.recall_table(results),
        figures=_figures(results, figures),
        plan={key: clean(results["plan"][key]) for key in ("reason", "source", "policy")},
        plan_tables=_plan_tables(results),
        galleries=_galleries(results, test, mislabelled),
        always_wrong=always_wrong(test.labels, logits),
        samples=_samples(samples),
        environment=_environment(results),
        command=clean(results["environment"].get("command") or ""),
        fingerprints=_fingerprints(results),
        open_rows=OPEN_ROWS,
    )


def data_address(png: bytes) -> str:
    """A PNG as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _facts(results: summary.Results) -> list[tuple[str, str]]:
    environment = results["environment"]
    runs = len(results["runs"])
    facts = [
        ("data", clean(results["dataset"])),
        ("images", f"{results['train_images']:,} train, {results['test_images']:,} test"),
        ("model", f"{clean(results['model'])}, {results['parameters']:,} parameters"),
        ("preset", clean(results["preset"])),
        ("runs", f"{runs} in {plural(len(summary.arm_names(results)), 'arm')}"),
    ]
    if environment.get("device"):
        facts.append(("device", clean(environment["device"])))
    return facts


def _cards(results: summary.Results) -> list[dict[str, str]]:
    cards = []
    for arm in summary.arm_names(results):
        entry = results["arms"][arm]
        spread = f"± {percent(entry['std'])}" if entry["std"] is not None else ""
        cards.append(
            {
                "arm": arm,
                "mean": percent(entry["mean"]),
                "spread": spread,
                "interval": interval(entry["ci95"]) if entry["ci95"] else "",
                "runs": plural(len(summary.runs_of(results, arm)), "run"),
                "focus": number(summary.focus_total(results, arm)),
            }
        )
    return cards


def _figures(
    results: summary.Results, figures: Mapping[str, tuple[bytes, bytes]]
) -> dict[str, Picture]:
    accuracies = ", ".join(
        f"{arm} {percent(results['arms'][arm]['mean'])} %" for arm in summary.arm_names(results)
    )
    words = {
        "accuracy": f"Test accuracy of every run; means: {accuracies}. The numbers stand in the "
        "table of this section.",
        "recall-change": "Change of each class's recall from arm to arm. The numbers stand in the "
        "table of this section.",
        "confusion-difference": "Difference of two confusion matrices, in images a run: how the "
        "arms' confusions differ.",
    }
    return {
        name: Picture(
            data_address(light),
            words.get(name, f"Confusion matrix of {name.removeprefix('confusion-')}."),
            dark=data_address(dark),
        )
        for name, (light, dark) in figures.items()
    }


def _plan_tables(results: summary.Results) -> list[tables.TextTable]:
    plan, names = results["plan"], summary.class_names(results)
    targeted = {label for pair in plan["pairs"] for label in (pair["first"], pair["second"])}
    pairs = tuple(
        (
            f"{names[pair['first']]} – {names[pair['second']]}",
            number(pair["first_as_second"] + pair["second_as_first"]),
            percent(pair["rate"]),
            interval(pair["ci95"]),
            percent(pair["share"], 1),
        )
        for pair in plan["pairs"]
    )
    classes = tuple(
        (names[label], "yes" if label in targeted else "no", number(draws, 3))
        for label, draws in enumerate(plan["extra_draws"])
    )
    heads = ("pair", "confused images", "% of both classes", "95 % interval", "% of all errors")
    return [
        tables.TextTable("Confused pairs", heads, pairs),
        tables.TextTable(
            "Extra draws",
            ("class", "targeted", "extra draws per image and epoch"),
            classes,
            labels=2,
            strong=frozenset(targeted),
        ),
    ]


def _galleries(
    results: summary.Results, test: ImageDataset, mislabelled: Mapping[str, Sequence[Mislabelled]]
) -> list[Gallery]:
    names = summary.class_names(results)
    galleries = []
    for arm, images in mislabelled.items():
        tiles = []
        for image in images:
            words = f"{names[image.true]} taken for {names[image.predicted]}"
            caption = f"{names[image.true]} → {names[image.predicted]}"
            sure = f"{percent(image.probability, 0)} %"
            often = f"{image.wrong_runs} of {plural(image.runs, 'run')}"
            tiles.append(
                Picture(
                    data_address(image_png(test.images[image.index])),
                    f"Test image {image.index}: {words}, {sure}, wrong in {often}",
                    f"{caption}\n{sure} · {often}",
                )
            )
        intro = (
            "Most often mislabelled first, then by the probability given to the wrong class."
            if tiles
            else "Nothing was mislabelled here."
        )
        galleries.append(Gallery(clean(arm), intro, tuple(tiles)))
    return galleries


def _samples(samples: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[Picture]:
    return [
        Picture(
            data_address(strip_png(stack)),
            f"{caption}: the original and {plural(len(stack) - 1, 'augmented image')}",
            caption,
        )
        for caption, stack in samples
    ]


def _environment(results: summary.Results) -> list[tuple[str, str]]:
    known: dict[str, Any] = {
        key: value for key, value in results["environment"].items() if key != "command"
    }
    rows = [
        (clean(key).replace("_", " "), clean(value))
        for key, value in known.items()
        if isinstance(value, str | int | float) and value != ""
    ]
    probe = results.get("probe")
    if probe:
        rows.append(
            (
                "probe for the plan",
                f"{probe['held_out_images']:,} held-out images, "
                f"{percent(probe['accuracy'])} % of them right",
            )
        )
    return rows


def _fingerprints(results: summary.Results) -> list[tuple[str, str]]:
    parts = results.get("fingerprints") or {"train": results["fingerprint"]}
    return [(f"{clean(split)} split", clean(digest)) for split, digest in parts.items()]
