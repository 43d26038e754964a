"""The page: one HTML file that needs nothing else and loads nothing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.dataset import ImageDataset
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.report import summary, tables
from fmnist_aug.report.galleries import Mislabelled, always_wrong
from fmnist_aug.report.hard_images import HardImage, hardest_images, probably_mislabelled
from fmnist_aug.report.matrices import MOST_SHOWN, confusion_matrices, matrix_style
from fmnist_aug.report.mistakes import collect_mistakes, mistakes_json
from fmnist_aug.report.tiles import (
    Gallery,
    Picture,
    arm_galleries,
    data_address,
    hard_tiles,
    sample_strips,
)
from fmnist_aug.report.wording import interval, number, percent, plural, unbroken
from fmnist_aug.text import clean

OPEN_ROWS = 24
"""Tables with more rows than this are folded until asked for."""
PACKAGES = {"fmnist_aug": "fmnist-aug", "scikit_learn": "scikit-learn"}
MOST_HARD = 16
"""Images that were hard for all arms: so many of either kind at the most."""


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
    style, script = _own_file("style.css") + matrix_style(), _own_file("script.js")
    mistakes = collect_mistakes(results, test.labels, logits)
    answer = summary.answer(results)
    answer = dataclasses.replace(answer, sentence=unbroken(answer.sentence))
    return environment.get_template("template.html.j2").render(
        # our own files, and JSON that is escaped for where it stands; all else is autoescaped
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        mistakes=Markup(mistakes_json(mistakes, test, summary.class_names(results))),
        matrices=confusion_matrices(results, mistakes),
        opens=bool(mistakes.runs),
        seeds_left_out=", ".join(map(str, mistakes.seeds_left_out)),
        all_shown=len(results["class_names"]) <= MOST_SHOWN,
        title=f"{clean(results['dataset'])}: did targeted augmentation help?",
        dataset=clean(results["dataset"]),
        answer=answer,
        facts=_facts(results),
        cards=_cards(results),
        known_arms=summary.KNOWN_ARMS,
        accuracy=tables.accuracy_table(results),
        arms=tables.arms_table(results),
        contrasts=tables.contrasts_table(results),
        shown_by=summary.shown_by_contrasts(results),
        focus=tables.focus_table(results),
        focus_sentence=unbroken(summary.focus_sentence(results)),
        recall=tables.recall_table(results),
        figures=_figures(results, figures),
        plan={key: unbroken(clean(results["plan"][key])) for key in ("reason", "source")},
        plan_lines=[
            unbroken(clean(line))
            for line in ConfusionPlan.from_dict(results["plan"]).describe_draws()
        ],
        selects=summary.skips_easy_draws(results) and "targeted" in summary.arm_names(results),
        plan_tables=_plan_tables(results),
        galleries=arm_galleries(results, test, mislabelled),
        hard=_hard_galleries(results, test, list(logits.values())),
        always_wrong=always_wrong(test.labels, logits),
        samples=sample_strips(samples),
        environment=_environment(results),
        command=clean(results["environment"].get("command") or ""),
        fingerprints=_fingerprints(results),
        open_rows=OPEN_ROWS,
    )


def _own_file(name: str) -> str:
    return resources.files("fmnist_aug.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """For the content security policy, which then allows this text and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _hard_galleries(
    results: summary.Results, test: ImageDataset, logits: Sequence[NDArray[np.float32]]
) -> list[Gallery]:
    doubtful = probably_mislabelled(test.labels, logits)
    listed = {image.index for image in doubtful}
    hardest = [image for image in hardest_images(test.labels, logits) if image.index not in listed]

    def gallery(title: str, intro: str, images: Sequence[HardImage]) -> Gallery:
        part = f" The first {MOST_HARD} of {len(images):,}." if len(images) > MOST_HARD else ""
        return Gallery(title, intro + part, hard_tiles(results, test, images[:MOST_HARD]))

    galleries = (
        gallery(
            "Probably mislabelled in the data",
            "Every run of every arm contradicts the label, and gives another class as much "
            "probability as images of that class get on average (confident learning).",
            doubtful,
        ),
        gallery(
            "Hardest images",
            "Wrong in most runs of all arms, then by the lowest probability of the labelled class.",
            hardest,
        ),
    )
    return [gallery for gallery in galleries if gallery.tiles]


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
                "interval": unbroken(interval(entry["ci95"])) if entry["ci95"] else "",
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
    ends = ", ".join(f"{arm} {percent(end)} %" for arm, end in summary.curve_ends(results).items())
    words = {
        "accuracy": f"Test accuracy of every run; means: {accuracies}. The numbers stand in the "
        "table of this section.",
        "recall-change": "Change of each class's recall from arm to arm. The numbers stand in the "
        "table of this section.",
        "learning-curves": "Accuracy and loss of each run on its training images, epoch by epoch. "
        f"Mean accuracy at the end: {ends}.",
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


def _environment(results: summary.Results) -> list[tuple[str, str]]:
    known: dict[str, Any] = {
        key: value for key, value in results["environment"].items() if key != "command"
    }
    rows = [
        (
            PACKAGES.get(key) or clean(key).replace("_", " "),
            f"{value:.1f}" if isinstance(value, float) else clean(value),
        )
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
    if differences := summary.differing(results):
        rows.append(("not the same for all runs", "; ".join(differences)))
    return rows


def _fingerprints(results: summary.Results) -> list[tuple[str, str]]:
    parts = results.get("fingerprints") or {"train": results["fingerprint"]}
    return [(f"{clean(split)} split", clean(digest)) for split, digest in parts.items()]
