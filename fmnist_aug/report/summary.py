"""What a comparison says in a few sentences, read from the dictionary that results.json holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.report.wording import interval, join_names, number, p_value, percent, plural, points
from fmnist_aug.text import class_title, clean

Results = dict[str, Any]
"""A comparison's results as `results.json` holds them (schema 1)."""

ARM_ORDER = ("baseline", "uniform", "targeted")
KNOWN_ARMS = (*ARM_ORDER, "sampler-only", "augment-only", "random-classes", "hard-only")
"""All arms there are; what they look like follows from their places here."""
_CONTROLS = {
    "hard-only": "skips easy draws too, but targets no classes",
    "random-classes": "does the same with classes chosen by chance",
}
"""What tells the classes' part of targeting from the rest of it, the sharper one first."""


@dataclass(frozen=True)
class Contrast:
    """One arm's test accuracy minus another's.

    Attributes:
        a: the arm that is judged.
        b: the arm it is held against.
        difference: accuracy of ``a`` minus accuracy of ``b``, as a fraction.
        ci95: 95 % interval of ``difference``, if it could be computed.
        p_value: two-sided, if it could be computed.
        verdict: ``better``, ``worse`` or ``no evidence``, from the view of ``a``.
        minimum_detectable_difference: as a fraction, if known.
        with_more_runs: twice as many runs, what they would detect, and what any number would.
    """

    a: str
    b: str
    difference: float
    ci95: tuple[float, float] | None
    p_value: float | None
    verdict: str
    minimum_detectable_difference: float | None
    with_more_runs: tuple[int, float, float] | None


@dataclass(frozen=True)
class Answer:
    """The answer to "did targeting help?".

    Attributes:
        verdict: ``better``, ``worse``, ``no evidence`` or ``open`` (the arms to tell are missing).
        short: the answer in a few words.
        sentence: the answer with its numbers.
    """

    verdict: str
    short: str
    sentence: str


def class_names(results: Results) -> list[str]:
    """The class names, fit for printing; a class whose name is blank is called by its number."""
    return [class_title(name, label) for label, name in enumerate(results["class_names"])]


def arm_names(results: Results) -> list[str]:
    """The arms that have runs: baseline, uniform, targeted, then any other."""
    found = {run["arm"]: None for run in results["runs"]}
    return [arm for arm in ARM_ORDER if arm in found] + [a for a in found if a not in ARM_ORDER]


def judged_pair(results: Results) -> tuple[str, str] | None:
    """The two arms to subtract, targeted − uniform if both ran; None if there is one arm only."""
    arms = arm_names(results)
    pairs = (("targeted", "uniform"), ("targeted", "baseline"), ("uniform", "baseline"))
    return next(((a, b) for a, b in pairs if a in arms and b in arms), None)


def runs_of(results: Results, arm: str) -> list[dict[str, Any]]:
    """The runs of ``arm``, ordered by seed."""
    return sorted((run for run in results["runs"] if run["arm"] == arm), key=lambda r: r["seed"])


def seeds(results: Results) -> list[int]:
    """The seeds of all runs, each once, ascending: the same seed is a pair over the arms."""
    return sorted({int(run["seed"]) for run in results["runs"]})


def summed_confusion(results: Results, arm: str) -> NDArray[np.int64]:
    """The confusion matrix of an arm, summed over its runs: int64 (K, K), rows = true."""
    size = len(results["class_names"])
    matrices = [run["confusion"] for run in runs_of(results, arm)]
    return np.asarray(np.array(matrices, np.int64).reshape(-1, size, size).sum(axis=0))


def mean_recall(results: Results, arm: str) -> NDArray[np.float64]:
    """Recall of each class averaged over an arm's runs: float64 (K,), NaN for an absent class."""
    rows = [
        [np.nan if value is None else value for value in run["per_class_recall"]]
        for run in runs_of(results, arm)
    ]
    return np.asarray(np.array(rows, np.float64).mean(axis=0))


def curve_ends(results: Results) -> dict[str, float]:
    """For each arm whose runs hold learning curves the mean accuracy at their ends."""
    ends: dict[str, float] = {}
    for arm in arm_names(results):
        curves = [run["curve"] for run in runs_of(results, arm) if run.get("curve")]
        if curves:
            ends[arm] = float(np.mean([curve[-1][1] for curve in curves]))
    return ends


def contrasts(results: Results) -> list[Contrast]:
    """All contrasts that were computed, in their order."""
    return [
        Contrast(
            a=entry["a"],
            b=entry["b"],
            difference=float(entry["difference"]),
            ci95=(entry["ci95"][0], entry["ci95"][1]) if entry.get("ci95") else None,
            p_value=entry.get("p_value"),
            verdict=str(entry["verdict"]),
            minimum_detectable_difference=entry.get(
                "minimum_detectable_difference", results.get("minimum_detectable_difference")
            ),
            with_more_runs=_with_more_runs(entry.get("with_more_runs")),
        )
        for entry in results.get("contrasts") or []
    ]


def _with_more_runs(entry: dict[str, Any] | None) -> tuple[int, float, float] | None:
    if entry is None:
        return None
    return int(entry["runs"]), float(entry["minimum_detectable_difference"]), float(entry["limit"])


def class_verdicts(results: Results, a: str, b: str) -> dict[int, str]:
    """For each class with test images the verdict on its recall, ``a`` against ``b``, if known."""
    labels = {name: label for label, name in enumerate(results["class_names"])}
    return {
        labels[item["class"]]: str(item["verdict"])
        for entry in results.get("contrasts") or []
        if (entry["a"], entry["b"]) == (a, b)
        for item in entry.get("per_class") or []
    }


def skips_easy_draws(results: Results) -> bool:
    """Whether the plan, and so `targeted`, trains on the hardest draws only."""
    keep: float = results["plan"].get("keep", 1.0)
    return keep < 1


def focus_classes(results: Results) -> list[int]:
    """Indices of the classes in focus; empty if nothing was in focus."""
    return [int(label) for label in results["runs"][0]["focus"]["classes"]]


def focus_names(results: Results) -> str:
    """The classes in focus as words."""
    names = class_names(results)
    return join_names([names[label] for label in focus_classes(results)])


def focus_total(results: Results, arm: str) -> float:
    """Mislabels an arm made in the focus classes, missed and claimed, averaged over its runs."""
    runs = runs_of(results, arm)
    return float(sum(run["focus"]["missed"] + run["focus"]["claimed"] for run in runs) / len(runs))


def shown_by_contrasts(results: Results) -> str:
    """What one sees in the differences between the arms that ran, in a sentence; may be empty."""
    arms = arm_names(results)
    aiming = "aiming it at the confused classes"
    skipping = " and skipping easy draws" if skips_easy_draws(results) else ""
    parts = [
        f"what {what} does ({second} − {first})"
        for first, second, what in (
            ("baseline", "uniform", "augmenting"),
            ("uniform", "targeted", aiming + skipping),
            ("hard-only", "targeted", aiming),
        )
        if first in arms and second in arms
    ]
    return f"One sees {join_names(parts)}." if parts else ""


def focus_sentence(results: Results) -> str:
    """How many mislabels the focus classes are part of, and how many that is of all mislabels."""
    if not focus_classes(results):
        return "No class was in focus: the plan found nothing to target."
    parts = []
    for arm in arm_names(results):
        share = results["arms"][arm].get("focus_share_of_errors")
        of_all = "" if share is None else f" ({percent(share, 0)} % of all mislabels)"
        parts.append(f"{number(focus_total(results, arm))} in {arm}{of_all}")
    counts = join_names(parts, most=len(parts))
    return f"The total mislabels from {focus_names(results)} average around {counts}."


def differing(results: Results) -> list[str]:
    """In what the environments of the runs differ, such as "torch (2.10.0 and 2.11.0)"."""
    found = results["environment"].get("differing") or {}
    return [
        f"{clean(name).replace('_', ' ')} ({join_names([_short(value) for value in values])})"
        for name, values in found.items()
    ]


def _short(value: Any) -> str:
    text = "not known" if value is None else clean(value)
    return text[:7] if re.fullmatch("[0-9a-f]{40}", text) else text  # as git does with commits


def headline(results: Results) -> str:
    """Whether targeted augmentation helped, honestly, in one to four sentences."""
    return answer(results).sentence


def answer(results: Results) -> Answer:
    """Whether targeted augmentation helped: against uniform first, then against no augmentation.

    Only the contrast with `uniform`, which augments as much but not as aimed, can show that
    *targeting* helped; the one with `baseline` also holds the effect of augmenting at all.
    """
    found = _answer(results)
    sentences = [found.sentence]
    if looks := results.get("looks"):
        known = f"{join_names(list(map(str, looks)))} {'run' if looks == [1] else 'runs'}"
        sentences.append(
            f"Runs were added when the results of {known} of each arm were known: who adds runs "
            "until the answer pleases is wrong more often than stated here."
        )
    if differences := differing(results):
        sentences.append(
            f"The runs were not all made alike, which may show here: {'; '.join(differences)}."
        )
    return replace(found, sentence=" ".join(sentences))


def _answer(results: Results) -> Answer:
    found = {(contrast.a, contrast.b): contrast for contrast in contrasts(results)}
    uniform = found.get(("targeted", "uniform"))
    baseline = found.get(("targeted", "baseline"))
    if "targeted" not in arm_names(results) or not (uniform or baseline):
        return Answer(
            "open",
            "Not measured",
            "Whether targeting helps was not measured: that takes the arm targeted and at least "
            "one of uniform and baseline.",
        )
    short, sentences = _against_uniform(results, uniform)
    if baseline:
        sentences.append(_against_baseline(results, uniform, baseline))
    sentences += _classes_or_images(results, uniform, found)
    sentences += _caveats(results, [item for item in (uniform, baseline) if item])
    return Answer(uniform.verdict if uniform else "open", short, " ".join(sentences))


def _against_uniform(results: Results, uniform: Contrast | None) -> tuple[str, list[str]]:
    if uniform is None:
        return "Open", [
            "Without the arm uniform it stays open whether targeting helps or just augmenting."
        ]
    short, opening = {
        "better": ("Yes, it helped", "Targeting helped"),
        "worse": ("No, it hurt", "Targeting hurt"),
    }.get(uniform.verdict, ("No evidence that it helped", "No evidence that targeting helped"))
    return short, [
        f"{opening}: targeted − uniform is {_spell(uniform)}, {_runs(results, uniform)}."
    ]


def _against_baseline(results: Results, uniform: Contrast | None, baseline: Contrast) -> str:
    text = f"Against the baseline without augmentation targeted is {_spell(baseline)}"
    if uniform is None:
        text += f", {_runs(results, baseline)}"
    text += f": {baseline.verdict}"
    if uniform and uniform.verdict == "no evidence" and baseline.verdict == "better":
        text += "; so augmenting helped, and nothing shows that targeting added to it"
    return text + "."


def _classes_or_images(
    results: Results, uniform: Contrast | None, found: dict[tuple[str, str], Contrast]
) -> list[str]:
    """Whether it is the classes: `targeted` may skip easy draws too, which `uniform` never does."""
    if not results["plan"]["pairs"]:
        return []
    for arm, does in _CONTROLS.items():
        if control := found.get(("targeted", arm)):
            text = f"Against {arm}, which {does}, targeted is {_spell(control)}: {control.verdict}"
            if uniform and (uniform.verdict, control.verdict) == ("better", "no evidence"):
                text += "; so nothing shows that its classes are what helped"
            return [f"{text}."]
    if uniform and uniform.verdict != "no evidence" and skips_easy_draws(results):
        return [
            "targeted skips easy draws too, which uniform does not: the arm hard-only tells that "
            "from what the classes do (--extend adds it to these runs, given all arms by --arm)."
        ]
    return []


def _caveats(results: Results, found: list[Contrast]) -> list[str]:
    sentences = [
        f"{item.a} − {item.b} alone would be evidence, but of {len(contrasts(results))} "
        "differences some look like it by chance (Holm's method)."
        for item in found
        if item.verdict == "no evidence" and item.p_value is not None and item.p_value < 0.05
    ]
    detectable = found[0].minimum_detectable_difference
    if detectable is not None:
        text = (
            "The smallest difference that these runs would probably have shown is about "
            f"{percent(detectable)} points"
        )
        if found[0].verdict == "no evidence" and (more := found[0].with_more_runs):
            runs, difference, limit = more
            text += (
                f"; a comparison of {runs} runs an arm would show about {percent(difference)}, "
                f"and however many runs, on as many test images, not less than {percent(limit)}"
            )
        sentences.append(f"{text}.")
    if len(seeds(results)) == 1:
        sentences.append("A single run an arm can't tell an effect from the luck of its seed.")
    if not results["plan"]["pairs"]:
        sentences.append(f"Nothing was targeted: {clean(results['plan']['reason'])}.")
    return sentences


def _spell(contrast: Contrast) -> str:
    details = []
    if contrast.ci95:
        details.append(f"95 % interval {interval(contrast.ci95, signed=True)}")
    if contrast.p_value is not None:
        p = p_value(contrast.p_value)
        details.append(f"p {p}" if p.startswith("<") else f"p = {p}")
    text = f"{points(contrast.difference)} points of test accuracy"
    return f"{text} ({', '.join(details)})" if details else text


def _runs(results: Results, contrast: Contrast) -> str:
    counts = [len(runs_of(results, arm)) for arm in (contrast.a, contrast.b)]
    return f"{plural(min(counts), 'run')} an arm"
