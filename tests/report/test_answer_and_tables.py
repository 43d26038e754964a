"""The answer in words, and the tables below it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fmnist_aug.report import headline
from fmnist_aug.report.summary import KNOWN_ARMS, answer, focus_sentence
from fmnist_aug.report.tables import accuracy_table, contrasts_table, focus_table, recall_table
from report.made_up import ARMS, HOSTILE, contrast, make_dataset, make_results, printed, small


def test_headline_without_evidence_names_interval_runs_and_what_was_detectable():
    _, _, results = small()
    contrast(results, "targeted", "uniform").update(
        difference=0.0003,
        ci95=[-0.001, 0.0016],
        p_value=0.4,
        verdict="no evidence",
        minimum_detectable_difference=0.003,
        with_more_runs={"runs": 6, "minimum_detectable_difference": 0.0021, "limit": 0.0009},
    )
    text = headline(results)
    assert text.startswith("No evidence that targeting helped: targeted − uniform is +0.03 points")
    assert "−0.10 … +0.16" in text
    assert "p = 0.400" in text
    assert "3 runs an arm" in text
    assert (
        "about 0.30 points; a comparison of 6 runs an arm would show about 0.21, and however many "
        "runs, on as many test images, not less than 0.09."
    ) in text
    contrast(results, "targeted", "uniform")["verdict"] = "better"
    assert "about 0.30 points." in headline(results)


@pytest.mark.parametrize(
    ("verdict", "opening"), [("better", "Targeting helped:"), ("worse", "Targeting hurt:")]
)
def test_headline_follows_the_verdict(verdict, opening):
    _, _, results = small()
    contrast(results, "targeted", "uniform")["verdict"] = verdict
    assert headline(results).startswith(opening)
    assert answer(results).verdict == verdict


def test_a_small_p_without_evidence_is_explained():
    # as Holm's method has it with three differences: 3 · 0.02 is no evidence
    _, _, results = small()
    changed = {"p_value": 0.02, "ci95": [0.001, 0.005], "verdict": "no evidence"}
    contrast(results, "targeted", "uniform").update(changed)
    text = headline(results)
    assert "targeted − uniform alone would be evidence, but of 3 differences" in text
    assert "the verdicts allow for looking at all of them" in contrasts_table(results).note
    contrast(results, "targeted", "uniform")["verdict"] = "better"
    assert "alone would be evidence" not in headline(results)
    _, _, results = small(arms=("uniform", "targeted"))
    assert "Holm" not in contrasts_table(results).note


def test_gain_over_the_baseline_alone_is_credited_to_augmenting():
    _, _, results = small()
    contrast(results, "targeted", "uniform")["verdict"] = "no evidence"
    contrast(results, "targeted", "baseline")["verdict"] = "better"
    assert "augmenting helped, and nothing shows that targeting added to it" in headline(results)
    assert answer(results).verdict == "no evidence"


def test_what_skipping_easy_draws_may_have_done_is_not_credited_to_the_classes():
    _, _, results = small()
    contrast(results, "targeted", "uniform")["verdict"] = "better"
    results["plan"]["keep"] = 0.5
    assert "targeted skips easy draws too, which uniform does not: the arm hard-only tells" in (
        headline(results)
    )
    contrast(results, "targeted", "uniform")["verdict"] = "no evidence"
    assert "easy draws" not in headline(results)
    contrast(results, "targeted", "uniform")["verdict"] = "better"
    results["plan"]["keep"] = 1.0
    assert "easy draws" not in headline(results)


@pytest.mark.parametrize(
    ("arm", "does"),
    [
        ("hard-only", "skips easy draws too, but targets no classes"),
        ("random-classes", "does the same with classes chosen by chance"),
    ],
)
def test_the_arms_that_tell_classes_from_the_rest_are_in_the_answer(arm, does):
    _, _, results = small(arms=(*ARMS, arm))
    contrast(results, "targeted", "uniform")["verdict"] = "better"
    found = contrast(results, "targeted", arm)
    found.update(difference=0.0001, ci95=[-0.001, 0.0012], p_value=0.9, verdict="no evidence")
    said = f"Against {arm}, which {does}, targeted is +0.01 points of test accuracy (95 % interval "
    assert f"{said}−0.10 … +0.12, p = 0.900): no evidence; so nothing shows that its classes" in (
        headline(results)
    )
    found["verdict"] = "better"
    assert "p = 0.900): better." in headline(results)


def test_a_plan_without_classes_has_no_part_of_them_to_tell():
    _, _, results = small(arms=(*ARMS, "hard-only"))
    contrast(results, "targeted", "uniform")["verdict"] = "better"
    results["plan"].update(pairs=[], keep=1.0)
    assert "Against hard-only" not in headline(results)
    assert "Nothing was targeted" in headline(results)


def test_without_uniform_the_answer_stays_open():
    _, _, results = small(arms=("baseline", "targeted"))
    contrast(results, "targeted", "baseline")["verdict"] = "better"
    assert answer(results).verdict == "open"
    assert "stays open" in headline(results)
    assert "3 runs an arm" in headline(results)


@pytest.mark.parametrize("arms", [("baseline",), ("targeted",), ("baseline", "uniform")])
def test_without_the_needed_arms_nothing_is_claimed(arms):
    _, _, results = small(arms=arms)
    assert answer(results).verdict == "open"
    assert "not measured" in headline(results)


def test_one_run_and_an_empty_plan_are_admitted():
    _, _, results = small(runs=1, pairs=[])
    text = headline(results)
    assert "1 run an arm" in text
    assert "luck of its seed" in text
    assert "Nothing was targeted" in text


def test_accuracy_table_is_the_originals():
    _, _, results = small()
    table = accuracy_table(results)
    assert [row[0] for row in table.rows] == ["1", "2", "3", "Average"]
    assert table.columns == ("Test", *ARMS)
    run = next(r for r in results["runs"] if r["arm"] == "uniform" and r["seed"] == 1)
    assert table.rows[1][2] == f"{100 * run['test_accuracy']:.2f}"
    assert table.rows[3][2] == f"{100 * results['arms']['uniform']['mean']:.2f}"


def test_a_run_that_is_missing_leaves_a_dash():
    _, _, results = small()
    results["runs"] = [r for r in results["runs"] if (r["arm"], r["seed"]) != ("targeted", 1)]
    assert accuracy_table(results).rows[1] == (*accuracy_table(results).rows[1][:3], "–")


def test_focus_table_counts_and_averages():
    _, _, results = small()
    table = focus_table(results)
    assert len(table.rows) == 3 * (3 + 1)
    focus = [run["focus"] for run in results["runs"] if run["arm"] == "baseline"]
    assert table.rows[0][2:6] == (
        str(focus[0]["missed"]),
        str(focus[0]["swapped"]),
        str(focus[0]["claimed"]),
        str(focus[0]["missed"] + focus[0]["claimed"]),
    )
    together = np.mean([entry["missed"] + entry["claimed"] for entry in focus])
    assert table.rows[3][5] == f"{together:.1f}"
    assert 3 in table.strong


def test_focus_sentence_fills_the_originals_gap(fashion):
    *_, results = fashion
    runs = [run for run in results["runs"] if run["arm"] == "targeted"]
    together = np.mean([run["focus"]["missed"] + run["focus"]["claimed"] for run in runs])
    text = focus_sentence(results)
    assert text.startswith("The total mislabels from T-shirt/top and Shirt average around ")
    assert f"{together:.0f} in targeted" in text
    assert "% of all mislabels" in text


def test_focus_sentence_leaves_out_no_arm_and_no_single_class():
    _, _, results = small(5, arms=KNOWN_ARMS, focus=range(5))
    text = focus_sentence(results)
    assert all(f" in {arm} (" in text for arm in KNOWN_ARMS)
    assert "other" not in text


def test_recall_table_has_a_verdict_for_each_class():
    _, _, results = small()
    entry = contrast(results, "targeted", "uniform")["per_class"][1]
    entry["verdict"] = "worse"
    table = recall_table(results)
    assert table.columns[-2:] == ("targeted − uniform", "verdict")
    assert table.rows[1][-1] == "worse"
    assert table.rows[1][-2].lstrip("+").replace("−", "-") == f"{100 * entry['difference']:.2f}"


@pytest.mark.fault(4)
def test_recall_table_shows_absent_classes_as_a_dash():
    test, logits, _ = small(4)
    keep = test.labels != 2
    test = test.subset(np.flatnonzero(keep))
    logits = {key: scores[keep] for key, scores in logits.items()}
    rows = recall_table(make_results(test, logits)).rows
    assert rows[2][1:] == ("–",) * 5
    assert all("–" not in row[1:] for row in rows[:2])


def test_terminal_shows_answer_and_four_tables(fashion):
    *_, results = fashion
    text = printed(results)
    for expected in (
        headline(results)[:30],
        focus_sentence(results)[:30],
        "Average",
        "95 % interval",
        "Mislabels of",
        "verdict",
    ):
        assert expected in text
    assert "targeted − uniform" in text


@pytest.mark.fault(14)
def test_terminal_never_sees_hostile_names():
    _, _, results = small(5, names=HOSTILE, focus=(2, 3))
    text = printed(results, force_terminal=True, no_color=True, color_system=None)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "red" in text
    assert "[bold]a[/bold]" in text


def test_names_of_arms_are_not_broken_on_a_usual_terminal():
    _, _, results = small(arms=KNOWN_ARMS)
    lines = printed(results, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    for title in ("Mislabels of", "Contrasts"):
        start = next(place for place, line in enumerate(lines) if line.startswith(title))
        words = {line.split(maxsplit=1)[0] for line in lines[start:] if line.strip()}
        assert {"targeted", "random-classes"} <= words


@pytest.mark.parametrize("width", [60, 70, *range(78, 90), 100])
def test_numbers_are_whole_whatever_the_width_of_the_terminal(width):
    path = Path(__file__).parents[2] / "examples/results/fashion-mnist-original-cpu/results.json"
    results = json.loads(path.read_text())
    told = printed(results, width=width)
    assert max(map(len, told.splitlines())) <= width
    table = focus_table(results)
    numbers = [cell for row in table.rows for cell in row[table.labels :]]
    words = told.split()
    assert all(words.count(number) >= numbers.count(number) for number in numbers)


def test_commits_of_the_runs_are_told_as_git_does():
    _, _, results = small()
    results["environment"]["differing"] = {"commit": ["4e98307" + 33 * "0", "17dbf05" + 33 * "f"]}
    assert "may show here: commit (4e98307 and 17dbf05)." in headline(results)
    results["environment"]["differing"] = {"torch": ["2.9.0", None, "2.10.0"]}
    assert "torch (2.9.0, not known and 2.10.0)." in headline(results)


@pytest.mark.parametrize("width", [20, 60, 200])
def test_any_width_of_terminal_works(width):
    _, _, results = small(runs=1)
    assert max(len(line) for line in printed(results, width=width).splitlines()) <= width


def test_contrasts_table_of_one_arm_is_empty():
    _, _, results = small(arms=("baseline",))
    assert contrasts_table(results).rows == ()
    assert "nothing to be compared with" in printed(results)


def test_nothing_in_focus_needs_no_table_of_it():
    _, _, results = small(runs=2)
    for run in results["runs"]:
        run["focus"]["classes"] = []
    assert focus_table(results).rows == ()
    text = printed(results)
    assert "Mislabels of" not in text
    assert "No class was in focus" in text


def test_the_interval_of_an_arms_accuracy_stays_on_the_scale():
    test = make_dataset(count=60)
    right = 9 * np.eye(3, dtype=np.float32)[test.labels]
    worse = right.copy()
    worse[0] = [0, 9, 0]
    runs = make_results(test, {("baseline", 0): right, ("baseline", 1): worse})
    low, high = runs["arms"]["baseline"]["ci95"]
    assert 0 < low < runs["arms"]["baseline"]["mean"] < high == 1.0
