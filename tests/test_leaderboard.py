import copy
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fmnist_aug.cli.main import cli
from fmnist_aug.errors import DataError, RunFolderError
from fmnist_aug.leaderboard import make_leaderboard, published_entries

QUOTED = Path(__file__).parents[1] / "examples" / "results" / "fashion-mnist-light"


def test_every_published_figure_says_where_it_comes_from():
    entries = published_entries()
    assert {entry.dataset for entry in entries} == {"fashion-mnist", "mnist"}
    for entry in entries:
        assert entry.source.startswith("https://")
        assert 0.5 < entry.accuracy < 1
        assert entry.model
        assert entry.runs
        assert entry.epoch in ("last", "best on test", "not said", "–")
        assert not entry.ours
    assert max(e.accuracy for e in entries if e.dataset == "fashion-mnist") < 0.97, "a wrong one"


def test_our_runs_stand_at_their_place_with_their_means():
    results = json.loads((QUOTED / "results.json").read_text())
    found = make_leaderboard([QUOTED])
    assert not found.left_out
    ours = {entry.model: entry for entry in found.entries if entry.ours}
    for arm, figures in results["arms"].items():
        entry = ours[f"{results['model']}, {arm}"]
        assert entry.accuracy == figures["mean"]
        assert entry.parameters == results["parameters"]
        assert entry.runs.startswith(f"mean of {figures['runs']}")
        assert entry.epoch == "last"
        assert "3.4 epochs" in entry.training
    for name in ("fashion-mnist", "mnist"):
        accuracies = [entry.accuracy for entry in found.entries if entry.dataset == name]
        assert accuracies == sorted(accuracies, reverse=True)


def test_the_command_takes_what_is_in_runs_or_what_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    alone = CliRunner().invoke(cli, ["leaderboard"])
    assert alone.exit_code == 0
    assert "96.59" in alone.stdout
    assert "targeted" not in alone.stdout
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "results.json").write_bytes((QUOTED / "results.json").read_bytes())
    assert "fast-cnn, targeted" in CliRunner().invoke(cli, ["leaderboard"]).stdout
    value = json.loads(CliRunner().invoke(cli, ["leaderboard", str(QUOTED), "--json"]).stdout)
    assert sum(entry["ours"] for entry in value["entries"]) == 3
    assert value["left_out"] == {}


def test_no_source_or_heading_is_cut_in_a_narrow_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(cli, ["leaderboard"]).stdout
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    for heading in ("network", "parameters", "training", "runs; epoch", "source"):
        assert shown.count(heading) >= 2
    for entry in make_leaderboard([]).entries:
        assert any(line.endswith(f"] {entry.source}") for line in lines)


@pytest.fixture
def changed(tmp_path):
    results = json.loads((QUOTED / "results.json").read_text())

    def write(change):
        value = copy.deepcopy(results)
        change(value)
        (tmp_path / "results.json").write_text(json.dumps(value))
        return tmp_path

    return write


def test_a_comparison_on_other_test_images_is_left_out(changed):
    folder = changed(lambda value: value["fingerprints"].update(test="0" * 64))
    found = make_leaderboard([folder])
    assert not any(entry.ours for entry in found.entries)
    assert "not the whole test set" in found.left_out[str(folder)]
    done = CliRunner().invoke(cli, ["leaderboard", str(folder)])
    assert "left out" in done.stderr
    assert done.exit_code == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("fingerprints"),
        lambda value: value["fingerprints"].update(test=[]),
        lambda value: value.update(arms=[]),
        lambda value: value.update(runs=[]),
        lambda value: value["arms"]["uniform"].update(mean="high"),
        lambda value: value.update(parameters=None),
    ],
)
def test_results_that_are_of_no_comparison_are_refused(changed, change):
    with pytest.raises(DataError, match=r"results\.json is not of a comparison"):
        make_leaderboard([changed(change)])


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"results\.json"):
        make_leaderboard([tmp_path])
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(RunFolderError, match="not valid JSON"):
        make_leaderboard([tmp_path])
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(DataError, match="not of a comparison"):
        make_leaderboard([tmp_path])


def test_a_comparison_on_other_training_images_is_left_out(changed):
    folder = changed(lambda value: value["fingerprints"].update(train="0" * 64))
    found = make_leaderboard([folder])
    assert not any(entry.ours for entry in found.entries)
    assert "not the whole training set" in found.left_out[str(folder)]


def test_one_bad_folder_does_not_hide_the_others(tmp_path):
    (tmp_path / "results.json").write_text("{")
    found = make_leaderboard([tmp_path, QUOTED, QUOTED.parent / "." / QUOTED.name, tmp_path / "no"])
    ours = [entry for entry in found.entries if entry.ours]
    assert len(ours) == len({entry.model for entry in ours}) > 0
    assert set(found.left_out) == {str(tmp_path), str(tmp_path / "no")}
    assert "not valid JSON" in found.left_out[str(tmp_path)]
