"""`--teacher`: comparisons and trainings that learn from earlier ones' checkpoints."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from fmnist_aug import compare, load_dataset
from fmnist_aug.cli.main import cli
from fmnist_aug.data import write_idx_folder
from fmnist_aug.errors import CheckpointError, DataError, FmnistAugError, RunFolderError
from fmnist_aug.leaderboard import _our_entries

QUICK = {"preset": "smoke", "epochs": 0.3, "device": "cpu", "precision": "fp32", "pairs": "0:6"}


@pytest.fixture(scope="module")
def teachers(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("teachers")
    return compare(small, out=out, runs=2, arms=["uniform"], **QUICK).folder


@pytest.fixture(scope="module")
def taught(small, teachers, tmp_path_factory):
    out = tmp_path_factory.mktemp("taught")
    return compare(small, out=out, runs=2, jobs=1, teacher=[teachers], **QUICK)


def predictions(folder):
    return {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}


def test_all_arms_are_taught_and_everything_says_so(taught, teachers):
    networks = taught.results["config"]["teacher"]
    assert [network["model"] for network in networks] == ["fast-cnn", "fast-cnn"]
    assert json.loads((taught.folder / "config.json").read_text())["teacher"] == networks
    assert str(teachers) not in json.dumps(taught.results["config"])
    page = (taught.folder / "report.html").read_text(encoding="utf-8")
    assert "<dt>taught by</dt><dd>2 × fast-cnn</dd>" in page
    assert "Instead of the labels all runs learned the answers of 2 × fast-cnn." in page
    shown = CliRunner().invoke(cli, ["report", str(taught.folder)], catch_exceptions=False)
    assert "all runs learned the answers of 2 × fast-cnn" in " ".join(shown.stdout.split())
    entries = _our_entries("fashion-mnist", taught.results, taught.folder)
    assert entries[0].training.endswith("preset smoke, taught by 2 × fast-cnn")


def test_the_same_teacher_by_other_paths_gives_the_same_runs(taught, teachers, small, tmp_path):
    paths = sorted((teachers / "checkpoints").iterdir())
    again = compare(small, out=tmp_path / "out", runs=2, jobs=2, teacher=paths, **QUICK)
    assert predictions(again.folder) == predictions(taught.folder)
    assert again.results["config"] == taught.results["config"]
    untaught = compare(small, out=tmp_path / "untaught", runs=2, **QUICK)
    assert untaught.results["config"]["teacher"] is None
    assert not predictions(untaught.folder).items() & predictions(taught.folder).items()
    assert "taught by" not in (untaught.folder / "report.html").read_text(encoding="utf-8")


def test_a_folder_keeps_its_teacher(taught, teachers, small):
    one = next((teachers / "checkpoints").iterdir())
    for other in ([one], []):
        with pytest.raises(RunFolderError, match="another comparison \\(teacher is"):
            compare(small, out=taught.folder, runs=2, teacher=other, **QUICK)


def test_a_teacher_that_saw_other_images_is_refused(teachers, small, noisy, tmp_path):
    others = tmp_path / "others"
    for split in ("train", "test"):
        write_idx_folder(load_dataset("fashion-mnist", split).subset(np.arange(600, 900)), others)
    with pytest.raises(DataError, match=r"these 300 .* may know what is tested here"):
        compare(others, out=tmp_path / "out", teacher=[teachers], **QUICK)
    with pytest.raises(DataError, match="whose classes are not those of Fashion-MNIST"):
        compare("fashion-mnist", out=tmp_path / "out", teacher=[teachers], **QUICK)
    for bad in (small, tmp_path / "nowhere", noisy / "t10k-labels-idx1-ubyte"):
        with pytest.raises(CheckpointError) as raised:
            compare(small, out=tmp_path / "out", teacher=[bad], **QUICK)
        assert str(bad) in str(raised.value)
        assert isinstance(raised.value, FmnistAugError)
    assert not (tmp_path / "out").exists()


def test_one_model_can_be_taught_too(teachers, small, tmp_path):
    path = tmp_path / "model.safetensors"
    command = ["train", "--dataset", str(small), "--preset", "smoke", "--epochs", "0.3", "--json"]
    command += ["--teacher", str(teachers), "--out", str(path), "--quiet"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert json.loads(done.stdout)["teacher"] == "2 × fast-cnn"
    assert "taught by | 2 × fast-cnn" in (tmp_path / "model.safetensors.card.md").read_text("utf-8")
