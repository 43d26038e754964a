import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "examples" / "results").glob("*/results.json"))
sys.path.insert(0, str(ROOT / "examples"))

import readme_tables  # noqa: E402


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_every_figure_of_the_readmes_tables_is_that_of_its_file(path):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    results = json.loads(path.read_text(encoding="utf-8"))
    assert f"examples/results/{path.parent.name}/results.json" in readme
    assert " ".join(readme_tables.accuracy_table(results).split()) in readme
    for line in readme_tables.contrast_lines(results):
        assert line in readme


def test_the_readmes_table_of_speed_is_that_of_its_file():
    path = ROOT / "examples" / "results" / "benchmark-avx2.json"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    benchmark = json.loads(path.read_text(encoding="utf-8"))
    assert readme_tables.speed_table(benchmark) in readme
    for found in benchmark["training"]["comparisons"].values():
        (ratio,) = found["ratios"].values()
        assert f"{ratio['median']:.2f} times" in readme


def test_there_are_results_to_check():
    assert RESULTS
