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

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "examples" / "results").glob("*/results.json"))
STUDIES = sorted((ROOT / "examples" / "results" / "targeting-study").glob("*/table.md"))
sys.path.insert(0, str(ROOT / "examples"))

import original_ablation  # noqa: E402
import readme_tables  # noqa: E402


def test_the_readmes_command_tests_these_sources_and_not_an_installed_copy():
    assert Path(fmnist_aug.__file__).parent == ROOT / "fmnist_aug"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_every_figure_of_the_readmes_tables_is_that_of_its_file(path):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    results = json.loads(path.read_text(encoding="utf-8"))
    assert f"examples/results/{path.parent.name}/results.json" in readme
    assert " ".join(readme_tables.accuracy_table(results).split()) in readme
    for line in readme_tables.contrast_lines(results):
        assert line in readme
    if results["preset"] == "original":  # the sentence that its author left open
        assert focus_sentence(results) in readme


def test_the_readmes_table_of_speed_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "benchmark-avx2.json"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    benchmark = json.loads(path.read_text(encoding="utf-8"))
    assert readme_tables.speed_table(benchmark) in readme
    for found in benchmark["training"]["comparisons"].values():
        (ratio,) = found["ratios"].values()
        assert f"{ratio['median']:.2f} times" in readme
    for channels in ("128 to 128 channels, 28 × 28", "128 to 256 channels, 14 × 14"):
        (ratio,) = benchmark["convolution"]["comparisons"][channels]["ratios"].values()
        assert f"{ratio['median']:.2f} times" in " ".join(readme.split())
    baseline, fast = (
        [ratio["median"] for ratio in found["ratios"].values()]
        for found in benchmark["precision"]["comparisons"].values()
    )
    for first, second in zip(baseline, fast, strict=True):
        assert f"{first:.2f} and {second:.2f} times as fast" in " ".join(readme.split())


def test_the_readmes_gain_by_bf16_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "benchmark-avx512.json"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"examples/results/{path.name}" in readme
    benchmark = json.loads(path.read_text(encoding="utf-8"))
    assert benchmark["environment"]["precision"] == "bf16"
    kornia = ", ".join(
        f"{name} {found['ratios']['batched : kornia, batches']['median']:.1f}×"
        for name, found in benchmark["augmentation"]["comparisons"].items()
    )
    assert f"against kornia, {kornia}." in " ".join(readme.split())
    for found in benchmark["training"]["comparisons"].values():
        (ratio,) = found["ratios"].values()
        assert f"{ratio['median']:.2f} times" in readme
    baseline, fast = (
        [ratio["median"] for ratio in found["ratios"].values()]
        for found in benchmark["precision"]["comparisons"].values()
    )
    for first, second in zip(baseline, fast, strict=True):
        assert f"{first:.2f} and {second:.2f} times as fast" in " ".join(readme.split())


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_the_readme_tells_of_each_study_what_its_file_says(path):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    first, *parts = path.read_text(encoding="utf-8").strip().split("\n\n")
    assert f"examples/results/targeting-study/{path.parent.name}" in readme
    seeds = first[first.index("an arm (") + 8 : first.index("), ")]
    assert f"seeds {seeds}" in readme or f"({seeds})" in readme
    if f"{path.parent.name}/table.md" in readme:  # sentences in place of tables
        rows = [line for line in parts[1].splitlines() if line.startswith("| targeted − ")]
        rows = [row for row in rows if "baseline" not in row]
        assert len(rows) == 2
        for row in rows:
            _, _, points, interval, *_ = (cell.strip() for cell in row.split("|"))
            assert re.search(rf"{re.escape(points)} (points )?\({re.escape(interval)}\)", readme)
        change = parts[-1].split(": ")[1].split(" (")[0]
        assert f"errors around the focus {change} against `uniform`" in readme
    else:
        for part in parts:
            assert " ".join(part.split()) in readme


def test_the_readmes_account_of_the_confusing_digits_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "confusing-digits" / "table.md"
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    rows = [line.split(" | ") for line in path.read_text("utf-8").splitlines() if "–" in line]
    gains = [float(row[3]) for row in rows]
    targeted, uniform = (sum(float(row[column]) for row in rows) / 10 for column in (1, 2))
    assert len(rows) == 10
    assert all("better" in row[-1] for row in rows)
    assert f"by {min(gains):.1f} to {max(gains):.1f} points" in readme
    assert f"({uniform:.1f} → {targeted:.1f} % on average" in readme


def test_the_readmes_account_of_the_search_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "plan-search-fashion-mnist.json"
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    search = json.loads(path.read_text(encoding="utf-8"))
    means = [mean(trial["accuracy_of_splits"]) for trial in search["trials"] if not trial["pruned"]]
    assert f"the best of {len(search['trials'])} had {max(means):.2%}".replace("%", " %") in readme
    assert f"the rule's {means[0]:.2%}".replace("%", " %") in readme
    assert search["command"] in readme
    low, high = re.findall(r"[-+]\d\.\d\d", search["plan"]["reason"])
    assert f"between {low} and {high} points" in readme


@pytest.mark.parametrize("name", ["original_ablation", "original_ablation-sgd"])
def test_the_readmes_rows_of_the_ablation_are_those_of_its_file(name):
    path = ROOT / "examples" / "results" / f"{name}.jsonl"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"examples/results/{path.name}" in readme
    _, *runs = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    accuracies, parameters = defaultdict(list), {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        accuracies[run["arm"]].append(run["accuracy"])
        parameters[run["arm"]] = count_parameters(create_model(run["arm"]))
    assert original_ablation.table(accuracies, parameters) in readme


@pytest.mark.parametrize(
    "name", ["time-to-accuracy", "time-to-accuracy-bf16", "time-to-accuracy-bf16-earlier"]
)
def test_the_readmes_time_to_accuracy_is_that_of_its_file(name):
    path = ROOT / "examples" / "results" / f"{name}.jsonl"
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"examples/results/{path.name}" in readme
    groups = defaultdict(list)
    for run in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        # earlier runs of one method and length can be of two versions
        groups[run["method"], run["epochs"], run.get("series")].append(run)
    for (method, epochs, _), found in groups.items():
        accuracy, seconds = (mean(run[key] for run in found) for key in ("accuracy", "seconds"))
        assert [run["seed"] for run in found] == list(range(1000, 1000 + len(found)))
        runs = f"mean of {len(found)}" if len(found) > 1 else "one run"
        told = f"{epochs:g} epochs {100 * accuracy:.2f} % in {seconds:.0f} s ({runs})"
        assert f"`{method.removesuffix(' preset')}`" in readme
        assert told in readme


def test_there_are_results_to_check():
    assert RESULTS
    assert STUDIES
