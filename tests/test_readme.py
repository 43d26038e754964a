import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest

import fmnist_aug
from fmnist_aug import create_model
from fmnist_aug.models import count_parameters
from fmnist_aug.report.summary import focus_sentence
from fmnist_aug.training import PRESETS

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "examples" / "results").glob("*/results.json"))
STUDIES = sorted((ROOT / "examples" / "results" / "targeting-study").glob("*/table.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
MEASUREMENTS = (ROOT / "examples" / "measurements.md").read_text(encoding="utf-8")
README_LINE, MEASUREMENTS_LINE = (" ".join(text.split()) for text in (README, MEASUREMENTS))
sys.path.insert(0, str(ROOT / "examples"))

import original_ablation  # noqa: E402
import readme_tables  # noqa: E402


def test_the_readmes_command_tests_these_sources_and_not_an_installed_copy():
    assert Path(fmnist_aug.__file__).parent == ROOT / "fmnist_aug"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_every_figure_of_the_readmes_tables_is_that_of_its_file(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    assert f"examples/results/{path.parent.name}/results.json" in README_LINE
    assert " ".join(readme_tables.accuracy_table(results).split()) in README_LINE
    for line in readme_tables.contrast_lines(results):
        assert line in README_LINE
    if results["preset"] == "original":  # the sentence that its author left open
        assert focus_sentence(results) in README_LINE


def test_runs_without_errors_have_no_share_of_them():
    arm = {"focus_missed_mean": 0.0, "focus_claimed_mean": 0.0, "focus_share_of_errors": None}
    run = {"arm": "uniform", "seed": 0, "test_accuracy": 1.0, "focus": {"classes": [0, 1]}}
    table = readme_tables.accuracy_table({"arms": {"uniform": {"mean": 1.0, **arm}}, "runs": [run]})
    assert table.endswith("| mislabels in focus | 0 |")


def test_the_readmes_table_of_speed_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "benchmark-avx2.json"
    benchmark = json.loads(path.read_text(encoding="utf-8"))
    assert readme_tables.speed_table(benchmark) in README
    for found in benchmark["training"]["comparisons"].values():
        (ratio,) = found["ratios"].values()
        assert f"{ratio['median']:.2f} times" in README_LINE
        assert f"{ratio['median']:.2f} times" in MEASUREMENTS_LINE
    for channels in ("128 to 128 channels, 28 × 28", "128 to 256 channels, 14 × 14"):
        (ratio,) = benchmark["convolution"]["comparisons"][channels]["ratios"].values()
        assert f"{ratio['median']:.2f} times" in MEASUREMENTS_LINE
    baseline, fast = (
        [ratio["median"] for ratio in found["ratios"].values()]
        for found in benchmark["precision"]["comparisons"].values()
    )
    for first, second in zip(baseline, fast, strict=True):
        assert f"{first:.2f} and {second:.2f} times as fast" in MEASUREMENTS_LINE


def test_the_readmes_gain_by_bf16_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "benchmark-avx512.json"
    assert f"examples/results/{path.name}" in README
    benchmark = json.loads(path.read_text(encoding="utf-8"))
    assert benchmark["environment"]["precision"] == "bf16"
    kornia = ", ".join(
        f"{name} {found['ratios']['batched : kornia, batches']['median']:.1f}×"
        for name, found in benchmark["augmentation"]["comparisons"].items()
    )
    assert f"against kornia, {kornia}." in README_LINE
    for found in benchmark["training"]["comparisons"].values():
        (ratio,) = found["ratios"].values()
        assert f"{ratio['median']:.2f} times" in README_LINE
        assert f"{ratio['median']:.2f} times" in MEASUREMENTS_LINE
    baseline, fast = (
        [ratio["median"] for ratio in found["ratios"].values()]
        for found in benchmark["precision"]["comparisons"].values()
    )
    for first, second in zip(baseline, fast, strict=True):
        assert f"{first:.2f} and {second:.2f} times as fast" in MEASUREMENTS_LINE


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_the_readme_tells_of_each_study_what_its_file_says(path):
    first, *parts = path.read_text(encoding="utf-8").strip().split("\n\n")
    assert f"examples/results/targeting-study/{path.parent.name}" in README_LINE
    seeds = first[first.index("an arm (") + 8 : first.index("), ")]
    assert f"seeds {seeds}" in README_LINE or f"({seeds})" in README_LINE
    if f"{path.parent.name}/table.md" in README_LINE:  # sentences in place of tables
        rows = [line for line in parts[1].splitlines() if line.startswith("| targeted − ")]
        rows = [row for row in rows if "baseline" not in row]
        assert len(rows) == 2
        for row in rows:
            _, _, points, interval, *_ = (cell.strip() for cell in row.split("|"))
            assert re.search(
                rf"{re.escape(points)} (points )?\({re.escape(interval)}\)", README_LINE
            )
        change = parts[-1].split(": ")[1].split(" (")[0]
        assert f"errors around the focus {change} against `uniform`" in README_LINE
    else:
        for part in parts:
            assert " ".join(part.split()) in README_LINE


def test_the_readmes_account_of_the_confusing_digits_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "confusing-digits" / "table.md"
    rows = [line.split(" | ") for line in path.read_text("utf-8").splitlines() if "–" in line]
    gains = [float(row[3]) for row in rows]
    targeted, uniform = (sum(float(row[column]) for row in rows) / 10 for column in (1, 2))
    assert len(rows) == 10
    assert all("better" in row[-1] for row in rows)
    assert f"by {min(gains):.1f} to {max(gains):.1f} points" in README_LINE
    assert f"({uniform:.1f} → {targeted:.1f} % on average" in README_LINE


def test_the_readmes_account_of_the_search_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "plan-search-fashion-mnist.json"
    search = json.loads(path.read_text(encoding="utf-8"))
    means = [mean(trial["accuracy_of_splits"]) for trial in search["trials"] if not trial["pruned"]]
    assert (
        f"the best of {len(search['trials'])} had {max(means):.2%}".replace("%", " %")
        in README_LINE
    )
    assert f"the rule's {means[0]:.2%}".replace("%", " %") in README_LINE
    assert search["command"] in README_LINE
    low, high = re.findall(r"[-+]\d\.\d\d", search["plan"]["reason"])
    assert f"between {low} and {high} points" in README_LINE


@pytest.mark.parametrize("name", ["original_ablation", "original_ablation-sgd"])
def test_the_readmes_rows_of_the_ablation_are_those_of_its_file(name):
    path = ROOT / "examples" / "results" / f"{name}.jsonl"
    assert f"examples/results/{path.name}" in README
    _, *runs = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    accuracies, parameters = defaultdict(list), {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        accuracies[run["arm"]].append(run["accuracy"])
        parameters[run["arm"]] = count_parameters(create_model(run["arm"]))
    assert original_ablation.table(accuracies, parameters) in README


@pytest.mark.parametrize(
    "name",
    [
        "time-to-accuracy-bf16",
        "time-to-accuracy-bf16-zen4",
        "time-to-accuracy-bf16-zen5",
        "time-to-accuracy-avx2",
    ],
)
def test_the_readmes_time_to_accuracy_is_that_of_its_file(name):
    path = ROOT / "examples" / "results" / f"{name}.jsonl"
    runs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert f"examples/results/{path.name}" in README
    assert readme_tables.time_table(runs) in README
    for row in {(run["method"], run["epochs"]) for run in runs}:
        seeds = [run["seed"] for run in runs if (run["method"], run["epochs"]) == row]
        assert seeds == list(range(1000, 1000 + len(seeds)))


@pytest.mark.parametrize("name", ["time-to-accuracy", "time-to-accuracy-bf16-earlier"])
def test_what_is_told_of_earlier_times_to_accuracy_is_that_of_its_file(name):
    path = ROOT / "examples" / "results" / f"{name}.jsonl"
    assert f"examples/results/{path.name}" in MEASUREMENTS
    groups = defaultdict(list)
    for run in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        # runs of one method and length can be of two versions
        groups[run["method"], run["epochs"], run.get("series")].append(run)
    for (method, epochs, _), found in groups.items():
        accuracy, seconds = (mean(run[key] for run in found) for key in ("accuracy", "seconds"))
        assert [run["seed"] for run in found] == list(range(1000, 1000 + len(found)))
        runs = f"mean of {len(found)}" if len(found) > 1 else "one run"
        told = f"{epochs:g} epochs {100 * accuracy:.2f} % in {seconds:.0f} s ({runs})"
        assert f"`{method.removesuffix(' preset')}`" in MEASUREMENTS
        assert told in MEASUREMENTS_LINE


def test_the_readmes_presets_are_those_there_are():
    rows = re.findall(r"^\| `([a-z-]+)` \| `([a-z0-9-]+)` \| ([0-9.]+)(?:,| \|)", README, re.M)
    told = {name: (model, float(epochs)) for name, model, epochs in rows}
    assert told == {
        name: (preset.settings.model, preset.settings.epochs) for name, preset in PRESETS.items()
    }


@pytest.mark.parametrize("text", [README, MEASUREMENTS], ids=["README", "measurements"])
def test_every_file_of_results_that_is_named_is_there(text):
    for name in re.findall(r"examples/[\w./-]+\.\w+", text):
        assert (ROOT / name).exists(), name


def test_there_are_results_to_check():
    assert RESULTS
    assert STUDIES
