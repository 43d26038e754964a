import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fmnist_aug import ConfusionPlan, ConfusionReport, compare
from fmnist_aug.augment import POLICIES
from fmnist_aug.cli.main import cli
from fmnist_aug.cli.searching import run_search
from fmnist_aug.comparison import plan_files, resolve_config, search
from fmnist_aug.comparison.plan_files import check_plan, load_plan
from fmnist_aug.comparison.probe import Probe
from fmnist_aug.comparison.search import SPACE, search_plan
from fmnist_aug.data import load_dataset
from fmnist_aug.errors import DataError, RunFolderError, UsageError
from fmnist_aug.training import Hardware, Measured, TrainSettings

pytest.importorskip("optuna")
SETTINGS = TrainSettings(model="fast-cnn", epochs=0.25, batch_size=50, optimizer="muon")
OPTIONS = {"repeats": 2, "held_out": 0.3, "hardware": Hardware("cpu", "fp32")}


@pytest.fixture(scope="module")
def train(small):
    return load_dataset(small, "train").subset(np.arange(300))


@pytest.fixture(scope="module")
def found(train):
    counts = np.diag([90] * 10)
    counts[0, 6] = counts[6, 0] = 10
    report = ConfusionReport(tuple(map(tuple, counts.tolist())), train.class_names)
    return Probe(report, 0.0, "made for a test", np.arange(0), np.zeros((0, 10), np.float32))


class Stop(Exception):
    pass


def test_a_search_that_was_stopped_goes_on_to_the_same_plan(train, found, tmp_path, monkeypatch):
    unbroken, told = tmp_path / "unbroken.db", []
    expected = search_plan(
        train, SETTINGS, found, unbroken, trials=6, on_trial=told.append, **OPTIONS
    )
    assert [trial.number for trial in told] == [*range(6)]
    assert expected.policy in SPACE["policy"]
    assert "best of 6 trials" in expected.reason
    assert ConfusionPlan.from_json(expected.to_json()) == expected

    # killed in the middle of a trial: its record says "running" for ever
    broken, trainings = tmp_path / "broken.db", []

    def train_and_stop(*arguments, **options):
        trainings.append(options["seed"])
        if len(trainings) == 6:
            raise Stop
        return train_model(*arguments, **options)

    train_model = search.train_model
    monkeypatch.setattr(search, "train_model", train_and_stop)
    with pytest.raises(Stop):
        search_plan(train, SETTINGS, found, broken, trials=6, **OPTIONS)
    monkeypatch.setattr(search, "train_model", train_model)
    again = []
    resumed = search_plan(
        train, SETTINGS, found, broken, trials=6, on_trial=again.append, **OPTIONS
    )
    assert 0 < len(again) < 6
    assert resumed == expected
    assert again == told[-len(again) :]


def test_a_plan_that_is_proposed_again_is_not_trained_again(train, found, tmp_path, monkeypatch):
    one_plan = {name: values[:1] for name, values in SPACE.items()}
    monkeypatch.setattr(search, "SPACE", one_plan | {"policy": ("erasing",), "keep": (0.4, 0.5)})
    first = {name: values[0] for name, values in one_plan.items()}
    monkeypatch.setattr(search, "_UNSEARCHED", first)
    seeds, told, train_model = [], [], search.train_model

    def count(*arguments, **options):
        seeds.append(options["seed"])
        return train_model(*arguments, **options)

    monkeypatch.setattr(search, "train_model", count)
    card = dataclasses.replace(train.card, policy="erasing")
    options = OPTIONS | {"trials": 8, "on_trial": told.append}
    search_plan(
        dataclasses.replace(train, card=card), SETTINGS, found, tmp_path / "study.db", **options
    )
    assert len(told) == 8
    assert len(seeds) <= 4, "two plans with two trainings each"
    assert len({trial.accuracy for trial in told}) <= 2
    assert all(trial.trainings == (1 if trial.pruned else 2) for trial in told)


@pytest.mark.fault(8)
def test_a_search_that_was_killed_goes_on_to_the_same_plan(small, tmp_path):
    def command(name):
        line = [sys.executable, "-m", "fmnist_aug", "plan", "--dataset", str(small), "--search"]
        line += ["--preset", "smoke", "--epochs", "0.3", "--pairs", "0:6", "--trials", "3"]
        line += ["--device", "cpu", "--precision", "fp32"]
        line += ["--study", str(tmp_path / f"{name}.db"), "--out", str(tmp_path / f"{name}.json")]
        return line

    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    unbroken = subprocess.run(command("unbroken"), check=True, timeout=600, **options).stderr
    with subprocess.Popen(command("broken"), **options) as killed:
        for line in killed.stderr:
            if line.startswith("[1/3]"):  # the second trial has begun, or is about to
                break
        time.sleep(0.2)
        killed.kill()
    assert not (tmp_path / "broken.json").exists()
    resumed = subprocess.run(command("broken"), check=True, timeout=600, **options).stderr
    assert "[1/3]" in unbroken
    assert "[1/3]" not in resumed, "the first trial was done again"
    assert "[3/3]" in resumed
    plans = [(tmp_path / f"{name}.json").read_text() for name in ("unbroken", "broken")]
    assert plans[0] == plans[1]


def test_a_finished_search_trains_nothing_and_another_is_refused(
    train, found, tmp_path, monkeypatch
):
    path = tmp_path / "study.db"
    first = search_plan(train, SETTINGS, found, path, trials=1, **OPTIONS)
    monkeypatch.setattr(search, "train_model", None)
    assert search_plan(train, SETTINGS, found, path, trials=1, **OPTIONS) == first
    assert first.policy == train.card.policy, "the first trial is the plan without a search"
    with pytest.raises(RunFolderError, match="its seed differs"):
        search_plan(train, SETTINGS, found, path, trials=1, seed=1, **OPTIONS)
    bf16 = OPTIONS | {"hardware": Hardware("cpu", "bf16")}
    with pytest.raises(RunFolderError, match="its precision differs"):
        search_plan(train, SETTINGS, found, path, trials=1, **bf16)


def test_the_probe_and_the_search_share_one_measured_precision(small, tmp_path, monkeypatch):
    seconds = {"fp32": 0.1, "bf16": 0.3}
    answers = iter([Measured(Hardware("cpu", "fp32"), seconds, seconds)])
    monkeypatch.setattr("fmnist_aug.comparison.config.measure_precision", lambda *_: next(answers))
    command = ["plan", "--dataset", str(small), "--search", "--trials", "1", "--preset", "smoke"]
    command += ["--epochs", "0.3", "--pairs", "0:6", "--precision", "measure"]
    done = CliRunner().invoke(cli, [*command, "--study", str(tmp_path / "study.db")])
    assert done.exit_code == 0, done.output
    assert next(answers, None) is None, "nothing was measured"


def test_the_first_trial_keeps_as_many_draws_as_the_preset(train, found, tmp_path, monkeypatch):
    plans = []

    def stop(*_, plan, **options):
        plans.append(plan)
        raise Stop

    monkeypatch.setattr(search, "train_model", stop)
    for preset in ("fast", "strong"):
        study, config = str(tmp_path / f"{preset}.db"), resolve_config(preset=preset)
        with pytest.raises(Stop):
            run_search(config, found, train, study, 1, None, quiet=True)
    assert [plan.keep for plan in plans] == [0.5, 1.0]


def test_searches_that_make_no_sense_are_refused(train, found, small, tmp_path):
    path = tmp_path / "study.db"
    with pytest.raises(DataError, match="test split"):
        search_plan(load_dataset(small, "test"), SETTINGS, found, path, **OPTIONS)
    with pytest.raises(UsageError, match="at least one trial"):
        search_plan(train, SETTINGS, found, path, trials=0, **OPTIONS)
    perfect = ConfusionReport.from_predictions(range(10), range(10), train.class_names)
    with pytest.raises(UsageError, match="no confusions"):
        search_plan(train, SETTINGS, dataclasses.replace(found, confusions=perfect), path)
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    with pytest.raises(RunFolderError, match="choose another --study"):
        search_plan(train, SETTINGS, found, blocked / "study.db", trials=1, **OPTIONS)


def test_without_optuna_the_extra_is_named(train, found, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"fmnist-aug\[search\]"):
        search_plan(train, SETTINGS, found, tmp_path / "study.db", **OPTIONS)


def test_the_space_holds_known_policies_only():
    assert set(SPACE["policy"]) <= set(POLICIES)


def test_a_comparison_takes_a_plan_from_a_file_and_no_probe(small, found, tmp_path):
    plan = ConfusionPlan.from_report(found.confusions, policy="mix-within")
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    options = {"preset": "smoke", "epochs": 0.1, "runs": 1, "device": "cpu", "arms": ["targeted"]}
    done = compare(small, out=tmp_path / "out", plan=path, **options)
    assert done.plan == plan
    assert done.results["plan"] == plan.to_dict()
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["policy"] == "mix-within"
    other = dataclasses.replace(plan, policy="erasing")
    with pytest.raises(RunFolderError, match=r"plan\.policy is 'mix-within' there"):
        compare(small, out=tmp_path / "out", plan=other, **options)
    with pytest.raises(UsageError, match="leave out --pairs"):
        compare(small, out=tmp_path / "x", plan=plan, pairs="0:6", **options)
    for wrong in (
        dataclasses.replace(plan, class_names=tuple("abcdefghij")),
        dataclasses.replace(plan, image_weights="123"),
    ):
        with pytest.raises(DataError):
            compare(small, out=tmp_path / "x", plan=wrong, **options)
    assert not (tmp_path / "x").exists()


def test_the_plan_in_the_package_fits_its_data_and_says_where_it_comes_from():
    plan = load_plan("default", "fashion-mnist")
    check_plan(plan, load_dataset("fashion-mnist", "train"))
    assert plan.policy in POLICIES
    assert (0, 6) in {(pair.first, pair.second) for pair in plan.pairs}
    path = Path(plan_files.__file__).parents[1] / "plans" / "fashion-mnist.json"
    origin = json.loads(path.read_text())["provenance"]
    assert origin["made_by"].startswith("fmnist-aug ")
    low, high = origin["held_out"]["ci95"]
    assert low < origin["held_out"]["accuracy"] < high
    made = ConfusionPlan.from_report(plan.confusions, policy=plan.policy)
    assert origin["searched"] or made.extra_draws == pytest.approx(plan.extra_draws)


def test_plans_that_are_not_there_or_no_plans_are_refused(tmp_path):
    with pytest.raises(UsageError, match="plan --search"):
        load_plan("default", "my pictures")
    (tmp_path / "pictures.json").write_text("{}")  # of whatever: nobody named it
    with pytest.raises(UsageError, match="plan --search"):
        load_plan("default", str(tmp_path / "pictures"))
    with pytest.raises(RunFolderError, match="nowhere"):
        load_plan(tmp_path / "nowhere.json", "fashion-mnist")
    path = tmp_path / "list.json"
    path.write_text("[1, 2]")
    with pytest.raises(DataError, match="not a plan"):
        load_plan(path, "fashion-mnist")
    path.write_text('{"schema": 1,}')
    with pytest.raises(RunFolderError, match=r"not valid JSON .*; give a plan that") as told:
        load_plan(path, "fashion-mnist")
    assert "remove" not in str(told.value)
