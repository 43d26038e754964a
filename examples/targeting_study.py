"""Does targeting help, and what about it? Arms and seeds, a table and a figure.

Run: python examples/targeting_study.py [--dataset fashion-mnist] [--preset fast] [--runs 20]
Trains each arm with each seed, the same seeds for all arms, and goes on where it was stopped: each
finished run is a line of runs.jsonl. The plan is made once, from held-out training images, or given
with --plan; the test set is for the last line only. Writes runs.jsonl, plan.json, table.md and
targeting.png into --out; --show makes table and figure of the runs that are there.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kept_runs import ArmRuns, KeptRuns
from numpy.typing import NDArray

from fmnist_aug import ConfusionPlan, ConfusionReport
from fmnist_aug.comparison import (
    ARMS,
    ComparisonConfig,
    base_augmentation,
    contrast,
    load_splits,
    make_plan,
    resolve_config,
    run_probe,
)
from fmnist_aug.comparison.plan_files import check_plan, load_plan
from fmnist_aug.comparison.results import contrast_figures, focus_figures
from fmnist_aug.data import ImageDataset
from fmnist_aug.report.wording import p_value

FOCUS_ARM, REFERENCE = "targeted", "uniform"
STUDIED = ("baseline", "uniform", "random-classes", "targeted")
RESULTS = Path(__file__).parent / "results" / "targeting-study"


def study_plan(config: ComparisonConfig, train: ImageDataset, kept: Path) -> ConfusionPlan:
    """The plan of an earlier part of this study, or one from held-out training images."""
    if kept.exists():
        plan = load_plan(kept, config.dataset)
        if plan.confusions is not None:
            asked = ConfusionPlan.from_report(plan.confusions, config.pairs)
            if asked.pairs != plan.pairs or config.policy not in (None, plan.policy):
                raise SystemExit(f"{kept} has other pairs or another policy; choose another --out")
        return plan
    plan = make_plan(run_probe(train, config), train, config.pairs, config.policy, config.keep)
    kept.write_text(plan.to_json() + "\n")
    return plan


def arm_lines(
    predicted: dict[str, NDArray[np.int64]],
    labels: NDArray[np.int64],
    names: tuple[str, ...],
    focus: tuple[int, ...],
) -> list[str]:
    """Accuracy of each arm and its errors around the classes in focus, as Markdown."""
    lines = [
        "| arm | accuracy, % | sd | missed | of them swapped | claimed | errors around the focus |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm, runs in predicted.items():
        accuracies = 100 * (runs == labels).mean(axis=1)
        reports = [ConfusionReport.from_predictions(labels, run, names) for run in runs]
        figures = [focus_figures(report, focus) for report in reports]
        missed, swapped, claimed = (
            float(np.mean([found[kind] for found in figures]))
            for kind in ("missed", "swapped", "claimed")
        )
        spread = f"{accuracies.std(ddof=1):.2f}" if len(runs) > 1 else "–"
        lines.append(
            f"| {arm} | {accuracies.mean():.2f} | {spread} | {missed:.1f} | {swapped:.1f} | "
            f"{claimed:.1f} | {missed + claimed:.1f} |"
        )
    return lines


def contrast_lines(contrasts: list[dict[str, Any]]) -> list[str]:
    """The differences between arms, and of targeted against uniform each class's, as Markdown."""
    lines = [
        "| a − b | points | 95 % interval | p (Holm) | verdict | detectable |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for item in contrasts:
        detectable = item["minimum_detectable_difference"]
        lines.append(
            f"| {item['a']} − {item['b']} | {_points(item['difference'])} | "
            f"{_interval(item['ci95'])} | {p_value(item['p_value_adjusted'])} | "
            f"{item['verdict']} | {'–' if detectable is None else f'{100 * detectable:.2f}'} |"
        )
    for item in contrasts:
        if (item["a"], item["b"]) == (FOCUS_ARM, REFERENCE):
            lines += [
                "",
                f"| class, {FOCUS_ARM} − {REFERENCE} | points | all at once 95 % | verdict |",
                "| --- | --- | --- | --- |",
            ]
            lines += [
                f"| {one['class']} | {_points(one['difference'])} | "
                f"{_interval(one['ci95_adjusted'])} | {one['verdict']} |"
                for one in item["per_class"]
            ]
    return lines


def focus_line(
    predicted: dict[str, NDArray[np.int64]], labels: NDArray[np.int64], focus: tuple[int, ...]
) -> str:
    """How many fewer errors around the focus targeted makes than uniform, with its interval."""
    inside = np.isin(labels, focus)
    spared = {
        arm: (runs == labels) | ~(inside | np.isin(runs, focus)) for arm, runs in predicted.items()
    }
    found = contrast(spared[FOCUS_ARM], spared[REFERENCE])
    errors = float((~spared[REFERENCE]).mean())
    if not errors:
        return f"No errors around the focus with {REFERENCE}."
    change, low, high = (
        -100 * value / errors for value in (found.difference, *reversed(found.ci95))
    )
    return (
        f"Errors around the focus, {FOCUS_ARM} against {REFERENCE}: {change:+.1f} % "
        f"(95 % interval {low:+.1f} … {high:+.1f} %), p {p_value(found.p_value)}."
    )


def draw(contrasts: list[dict[str, Any]], path: Path) -> None:
    """Differences between arms, and class by class, with their intervals."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    classes: list[dict[str, Any]] = next(
        (i["per_class"] for i in contrasts if (i["a"], i["b"]) == (FOCUS_ARM, REFERENCE)), []
    )
    panels = [
        ("arms", [f"{item['a']} − {item['b']}" for item in contrasts], contrasts, "ci95"),
        (f"{FOCUS_ARM} − {REFERENCE}", [c["class"] for c in classes], classes, "ci95_adjusted"),
    ]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 0.8 + 0.35 * max(len(contrasts), 10)))
    for axis, (title, names, items, interval) in zip(axes, panels, strict=True):
        for row, item in enumerate(items):
            low, high = (100 * limit for limit in item[interval])
            axis.plot([low, high], [row, row], color="#0072b2")
            axis.plot(100 * item["difference"], row, "o", color="#0072b2")
        axis.axvline(0, color="#5f6b7a", linewidth=0.8)
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.set_title(title)
        axis.set_xlabel("points of accuracy")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _interval(bounds: list[float]) -> str:
    return f"{_points(bounds[0])} … {_points(bounds[1])}"


def _ranges(seeds: Sequence[int]) -> str:
    """Ascending numbers, as '0–4, 7'."""
    starts = [seed for seed in seeds if seed - 1 not in seeds]
    ends = [seed for seed in seeds if seed + 1 not in seeds]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in pairs)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Does targeting help?")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--runs", type=int, default=20, help="of each arm")
    parser.add_argument("--seed", type=int, default=0, help="of the first run of each arm")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(STUDIED))
    parser.add_argument("--epochs", type=float, help="default: the preset's")
    parser.add_argument("--pairs", default="auto")
    parser.add_argument("--policy")
    parser.add_argument("--plan", help="a plan's file, or default")
    parser.add_argument("--out", type=Path, help="default: a folder beside the kept results")
    parser.add_argument("--show", action="store_true", help="train nothing, show what is there")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    config = resolve_config(
        options.dataset,
        preset=options.preset,
        epochs=options.epochs,
        arms=options.arms,
        runs=options.runs,
        seed=options.seed,
        pairs=options.pairs,
        policy=options.policy,
    )
    train, test = load_splits(config, None)
    out = options.out or RESULTS / f"{train.card.name}-{config.preset}"
    out.mkdir(parents=True, exist_ok=True)
    path = out / "runs.jsonl"
    seeds: Sequence[int]
    if options.show:  # whatever plan and preset have become since, and on any machine
        kept = KeptRuns(path, None, test.labels)
        plan = ConfusionPlan.from_dict(kept.identity["plan"])
        seeds, predict = kept.complete_seeds(options.arms), kept.read
    else:
        if options.plan:
            plan = load_plan(options.plan, options.dataset)
            check_plan(plan, train)
        else:
            plan = study_plan(config, train, out / "plan.json")
        base = base_augmentation(train, config.settings.augment)
        runs = ArmRuns(path, train, test, config.settings, base, plan, config.hardware)
        kept, seeds, predict = runs.kept, config.seeds, runs.predictions
    if not seeds:
        raise SystemExit(f"{out} holds no seed with which all of {options.arms} were trained")
    # seed by seed, so that a study that is stopped early still has pairs
    found: dict[str, list[NDArray[np.int64]]] = {arm: [] for arm in config.arms}
    for seed in seeds:
        for arm in config.arms:
            predictions = predict(arm, seed)
            found[arm].append(predictions)
            if not options.show:
                accuracy = (predictions == test.labels).mean()
                print(f"{arm} (seed {seed}): {100 * accuracy:.2f} %", flush=True)
    predicted = {arm: np.stack(each) for arm, each in found.items()}
    correct = {arm: each == test.labels for arm, each in predicted.items()}
    contrasts = contrast_figures(correct, test.labels, test.class_names)
    focus = train.card.focus or plan.classes
    lines = [
        f"{train.card.title}, {config.preset}, {kept.identity['settings']['epochs']:g} epochs, "
        f"{len(seeds)} seed(s) an arm ({_ranges(seeds)}), {len(test)} test images.",
        "",
        *arm_lines(predicted, test.labels, test.class_names, focus),
        "",
        *contrast_lines(contrasts),
    ]
    if {FOCUS_ARM, REFERENCE} <= predicted.keys() and focus:
        lines += ["", focus_line(predicted, test.labels, focus)]
    text = "\n".join(lines)
    (out / "table.md").write_text(text + "\n")
    draw(contrasts, out / "targeting.png")
    print(f"\n{text}\n\nwrote {out / 'table.md'} and {out / 'targeting.png'}")


if __name__ == "__main__":
    main()
