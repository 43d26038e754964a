import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fmnist_aug import ConfusionPlan, compare, load_classifier, load_dataset
from fmnist_aug.cli.main import cli
from fmnist_aug.comparison import comparing, config, contrast, load_splits
from fmnist_aug.comparison.compare import load_comparison
from fmnist_aug.comparison.config import resolve_config
from fmnist_aug.comparison.environment import describe_environment
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.comparison.rebuild import rebuild_report
from fmnist_aug.errors import DataError, RunFolderError, UsageError
from fmnist_aug.files import read_sealed, write_sealed
from fmnist_aug.report.summary import headline
from fmnist_aug.training import Hardware, Measured

QUICK = {"preset": "smoke", "epochs": 0.3, "device": "cpu", "precision": "fp32"}


def without_times(results):
    results = json.loads(json.dumps(results))
    del results["environment"]
    for run in results["runs"]:
        del run["train_seconds"]
    return results


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    return compare(small, out=out, runs=2, pairs="0:6", command="fmnist-aug compare …", **QUICK)


def test_a_comparison_leaves_every_file_of_the_design(finished):
    names = {
        str(path.relative_to(finished.folder))
        for path in finished.folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    runs = [f"{arm}-{seed}" for arm in ("baseline", "uniform", "targeted") for seed in (0, 1)]
    expected = {"results.json", "runs.csv", "plan.json", "report.html", "config.json"}
    expected |= {f"predictions/{run}.npz" for run in runs}
    expected |= {f"checkpoints/{run}.safetensors" for run in runs}
    expected |= {f"records/{run}.json" for run in runs}
    figures = {name for name in names if name.startswith("figures/")}
    assert figures
    assert names - figures == expected
    results = json.loads((finished.folder / "results.json").read_text())
    assert results == finished.results
    assert {run["arm"] for run in results["runs"]} == {"baseline", "uniform", "targeted"}
    assert {run["steps"] for run in results["runs"]} == {results["runs"][0]["steps"]}
    with (finished.folder / "runs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["test_accuracy"]) for row in rows] == [
        run["test_accuracy"] for run in results["runs"]
    ]


def test_figures_can_be_recomputed_from_predictions_and_from_checkpoints(finished, small):
    test = load_dataset(small, "test")
    correct = {"baseline": [], "uniform": [], "targeted": []}
    for run in finished.results["runs"]:
        name = f"{run['arm']}-{run['seed']}"
        with np.load(finished.folder / "predictions" / f"{name}.npz") as content:
            logits, labels = content["logits"], content["labels"]
        assert logits.dtype == np.float32
        assert (labels == test.labels).all()
        predicted = logits.argmax(axis=1)
        correct[run["arm"]].append(predicted == labels)
        confusion = np.zeros((10, 10), int)
        np.add.at(confusion, (labels, predicted), 1)
        assert confusion.tolist() == run["confusion"]
        assert (predicted == labels).mean() == run["test_accuracy"]
        focus, outside = [0, 6], [label for label in range(10) if label not in (0, 6)]
        assert run["focus"]["classes"] == focus
        assert run["focus"]["missed"] == confusion[focus].sum() - np.diag(confusion)[focus].sum()
        assert run["focus"]["claimed"] == confusion[np.ix_(outside, focus)].sum()
        assert run["focus"]["swapped"] == confusion[0, 6] + confusion[6, 0]
        classifier = load_classifier(finished.folder / "checkpoints" / f"{name}.safetensors")
        probabilities = classifier.predict_proba(test.images)
        assert (probabilities.argmax(axis=1) == predicted).all()
    for entry in finished.results["contrasts"]:
        again = contrast(correct[entry["a"]], correct[entry["b"]])
        assert (again.difference, list(again.ci95)) == (entry["difference"], entry["ci95"])
        assert again.p_value == entry["p_value"] <= entry["p_value_adjusted"]
        assert entry["verdict"] == (
            again.verdict if entry["p_value_adjusted"] < 0.05 else "no evidence"
        )
        for item in entry["per_class"]:
            (low, high), (lower, higher) = item["ci95"], item["ci95_adjusted"]
            assert lower <= low <= item["difference"] <= high <= higher


@pytest.mark.fault(16)
def test_the_same_comparison_twice_gives_the_same_numbers(finished, small, tmp_path):
    again = compare(
        small, out=tmp_path, runs=2, pairs="0:6", command="fmnist-aug compare …", **QUICK
    )
    assert without_times(again.results) == without_times(finished.results)


def test_a_finished_comparison_is_not_repeated(finished, small):
    before = (finished.folder / "results.json").stat().st_mtime_ns
    events = []
    again = compare(
        small, out=finished.folder, runs=2, pairs="0:6", on_progress=events.append, **QUICK
    )
    assert again.results == finished.results
    assert not events
    assert (finished.folder / "results.json").stat().st_mtime_ns == before


@pytest.mark.fault(10)
def test_another_configuration_in_the_folder_is_refused_with_the_difference(finished, small):
    with pytest.raises(RunFolderError, match="runs is 2 there and 3 now"):
        compare(small, out=finished.folder, runs=3, pairs="0:6", **QUICK)


def test_arms_and_runs_are_added_to_a_finished_comparison(finished, small, tmp_path):
    options = {**QUICK, "pairs": "0:6"}
    before = compare(small, out=tmp_path, runs=1, arms=["uniform", "targeted"], **options)
    page = (tmp_path / "report.html").read_bytes()
    changed = ComparisonFolder(tmp_path).record("uniform", 0).stat().st_mtime_ns
    with pytest.raises(RunFolderError, match=r"arms is .* --out, --extend to add what is new, or"):
        compare(small, out=tmp_path, runs=2, **options)

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(small, out=tmp_path, runs=2, extend=True, on_progress=stop, **options)
    kept = load_comparison(tmp_path)
    assert (kept.results, before.results["looks"]) == (before.results, [])
    rebuild_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == page

    again = compare(small, out=tmp_path, runs=2, **options)  # the folder is this one's already
    assert again.results["looks"] == [1]
    expected = without_times(finished.results)
    assert without_times({**again.results, "looks": []}) == expected
    assert ComparisonFolder(tmp_path).record("uniform", 0).stat().st_mtime_ns == changed
    assert "when the results of 1 run of each arm were known" in headline(again.results)
    assert "were known" not in headline(finished.results)
    compare(small, out=tmp_path, runs=2, extend=True, **options)
    assert json.loads((tmp_path / "results.json").read_text()) == again.results, "nothing to add"
    once_more = compare(small, out=tmp_path, runs=3, extend=True, **options)
    assert once_more.results["looks"] == [1, 2]
    assert "the results of 1 and 2 runs of each arm" in headline(once_more.results)
    assert [run["seed"] for run in once_more.results["runs"]] == [0, 1, 2] * 3


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"runs": 1}, "runs is 2 there and 1 now"),
        ({"arms": ["uniform", "targeted"]}, "arms is"),
        ({"arms": ["uniform", "targeted", "sampler-only"]}, "arms is"),
        ({"runs": 3, "seed": 1}, "seed is 0 there and 1 now"),
        ({"runs": 3, "epochs": 0.2}, "is 0.3 there and 0.2 now"),
    ],
)
def test_nothing_but_more_arms_and_runs_can_be_added(finished, small, changes, difference):
    before = (finished.folder / "config.json").read_bytes()
    options = {**QUICK, "runs": 2, "pairs": "0:6", **changes}
    with pytest.raises(RunFolderError, match=rf"{difference}.*; choose another --out, or"):
        compare(small, out=finished.folder, extend=True, **options)
    assert (finished.folder / "config.json").read_bytes() == before


def test_an_arm_is_added_beside_those_that_are_named_too(finished, small):
    options = {**QUICK, "runs": 2, "pairs": "0:6", "extend": True}
    added = "name its arms too: --arm baseline --arm uniform --arm targeted --arm sampler-only"
    with pytest.raises(RunFolderError, match=f"to start over; to add to it {added}$"):
        compare(small, out=finished.folder, arms=["sampler-only"], **options)
    with pytest.raises(RunFolderError, match=r"to start over$"):
        compare(small, out=finished.folder, arms=["uniform", "targeted"], **options)
    with pytest.raises(RunFolderError, match=r"to start over$"):
        compare(small, out=finished.folder, arms=["sampler-only"], **options, seed=1)


def test_adding_and_starting_over_exclude_each_other(small, tmp_path):
    with pytest.raises(UsageError, match=r"--extend adds .* --no-resume removes"):
        compare(small, out=tmp_path / "out", extend=True, resume=False)
    assert not (tmp_path / "out").exists()


def test_the_report_is_rebuilt_from_the_files(finished, small):
    page = finished.folder / "report.html"
    before = page.read_bytes()
    page.unlink()
    rebuild_report(finished.folder)
    assert page.read_bytes() == before


def test_the_report_of_a_data_set_that_was_moved_takes_its_new_place(
    finished, small, noisy, tmp_path, monkeypatch
):
    shutil.copytree(finished.folder, tmp_path / "there" / "out")
    monkeypatch.chdir(tmp_path / "there")
    folder = ComparisonFolder(tmp_path / "there" / "out")
    folder.save_results(
        {**finished.results, "config": {**finished.results["config"], "dataset": "data"}}
    )
    folder.path.joinpath("report.html").unlink()
    with pytest.raises(UsageError, match=r"no data set 'data' here.*--dataset PATH"):
        rebuild_report(Path("out"))
    with pytest.raises(DataError, match="other fingerprint"):
        rebuild_report(Path("out"), dataset=noisy)
    done = CliRunner().invoke(
        cli, ["report", "out", "--dataset", str(small), "--json"], catch_exceptions=False
    )
    assert Path(json.loads(done.stdout)["report"]).is_file()


def test_a_path_is_the_same_data_set_however_it_is_spelt(small, finished, tmp_path):
    assert [resolve_config(name).dataset for name in ("bin/", "./bin", Path("bin"))] == ["bin"] * 3
    assert resolve_config("fashion-mnist").dataset == "fashion-mnist"
    assert resolve_config("./fashion-mnist").dataset == "./fashion-mnist", "not the packaged one"
    again = compare(f"{small}/", out=finished.folder, runs=2, pairs="0:6", **QUICK)
    assert again.results == finished.results
    ComparisonFolder(tmp_path).claim({"dataset": "bin/"}, resume=True)  # as it was written before
    ComparisonFolder(tmp_path).claim({"dataset": "bin"}, resume=True)


def test_runs_that_were_not_all_made_alike_are_told_apart(finished, small, tmp_path):
    assert finished.results["environment"]["differing"] == {}
    folder = ComparisonFolder(tmp_path / "copy")
    shutil.copytree(finished.folder, folder.path)
    record = read_sealed(folder.record("uniform", 1))
    (made_with,) = record["made_with"]
    assert {"torch", "threads", "commit", "device_name"} <= made_with.keys()
    write_sealed(
        folder.record("uniform", 1), {**record, "made_with": [{**made_with, "torch": "2.0.0"}]}
    )
    folder.results.unlink()
    again = compare(small, out=folder.path, runs=2, pairs="0:6", **QUICK)
    ours = made_with["torch"]
    assert again.results["environment"]["differing"] == {"torch": [ours, "2.0.0"]}
    assert without_times(again.results) == without_times(finished.results)
    warning = f"torch ({ours} and 2.0.0)"
    assert warning in headline(again.results)
    page = (folder.path / "report.html").read_text()
    assert page.count(warning) == 2
    # as an earlier version kept it, of which nothing is known
    del record["made_with"]
    write_sealed(folder.record("uniform", 1), record)
    folder.results.unlink()
    unknown = compare(small, out=folder.path, runs=2, pairs="0:6", **QUICK)
    assert unknown.results["environment"]["differing"]["torch"] == [ours, None]
    assert f"torch ({ours} and not known)" in headline(unknown.results)


@pytest.mark.fault(10)
def test_starting_over_removes_every_file_of_a_comparison_but_no_other(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    foreign = {"notes.txt", "figures/mine.png", "figures/confusion-mine.png", "records/mine.json"}
    for name in foreign:
        (folder / name).write_text("mine")
    ComparisonFolder(folder).claim({"runs": 1}, resume=False)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left - {".lock"} == {"config.json", *foreign}


@pytest.mark.fault(10)
def test_starting_over_keeps_foreign_files_and_drops_old_results(small, tmp_path):
    options = {**QUICK, "arms": ["baseline"], "epochs": 0.1}
    compare(small, out=tmp_path, runs=2, **options)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "predictions" / "mine.npz").write_text("mine")
    compare(small, out=tmp_path, runs=1, resume=False, **options)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == [
        "baseline-0.npz",
        "mine.npz",
    ]


@pytest.mark.fault(5)
def test_noise_in_place_of_the_test_set_changes_neither_plan_nor_weights(
    small, noisy, finished, tmp_path, record_property
):
    record_property("seed", 0)  # of the noise
    out = tmp_path / "out"
    poisoned = compare(noisy, out=out, runs=2, pairs="0:6", **QUICK)
    assert without_times(poisoned.results)["runs"] != without_times(finished.results)["runs"]
    plans = [
        ConfusionPlan.from_json((folder / "plan.json").read_text()).to_dict()
        for folder in (out, finished.folder)
    ]
    for plan in plans:  # only the name of the folder may differ
        plan["source"] = plan["source"].replace(noisy.name, "NAME").replace(small.name, "NAME")
    assert plans[0] == plans[1]
    for path in (finished.folder / "checkpoints").iterdir():
        ours, theirs = (
            load_classifier(folder / "checkpoints" / path.name).model.state_dict()
            for folder in (finished.folder, out)
        )
        assert all((ours[name] == theirs[name]).all() for name in ours)


@pytest.mark.fault(8)
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_killed_comparison_goes_on_to_the_same_results(small, finished, tmp_path):
    command = [sys.executable, "-m", "fmnist_aug", "compare", "--dataset", str(small)]
    command += ["--preset", "smoke", "--epochs", "0.3", "--runs", "2", "--pairs", "0:6"]
    command += [
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--out",
        str(tmp_path),
        "--quiet",
        "--jobs",
        "2",
    ]
    started = subprocess.Popen(command)
    deadline = time.monotonic() + 600
    while not (tmp_path / "records").is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "results.json").exists()
    subprocess.run(command, check=True, timeout=600, stdout=subprocess.DEVNULL)
    results = json.loads((tmp_path / "results.json").read_text())
    assert without_times(results) == without_times(finished.results)


def test_a_measured_precision_is_recorded_and_not_measured_again(small, tmp_path, monkeypatch):
    seconds = {"fp32": 0.1, "bf16": 0.3}
    answers = iter([Measured(Hardware("cpu", "fp32"), seconds, seconds)])
    monkeypatch.setattr(config, "measure_precision", lambda *_: next(answers))
    options = {**QUICK, "epochs": 0.1, "arms": ["baseline"], "runs": 1, "precision": "measure"}
    found = compare(small, out=tmp_path, **options)
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept["hardware"] == {"device": "cpu", "precision": "fp32"}
    assert kept["measured"]["step_seconds"] == seconds
    assert found.results["environment"]["precision"] == "fp32"
    assert compare(small, out=tmp_path, **options).results == found.results
    # the same precision by name is the same comparison
    assert compare(small, out=tmp_path, **{**options, "precision": "fp32"}).results == found.results
    with pytest.raises(RunFolderError, match="precision is 'fp32' there and 'bf16' now"):
        compare(small, out=tmp_path, **{**options, "precision": "bf16"})


def test_a_named_pair_that_does_not_exist_fails_before_any_training(small, tmp_path):
    with pytest.raises(UsageError, match="unknown class 'Hat'"):
        compare(small, out=tmp_path / "out", pairs="0:Hat", **QUICK)
    assert not (tmp_path / "out").exists()


def test_smoke_takes_a_slice_of_the_real_data():
    train, test = load_splits(resolve_config(preset="smoke"), None)
    assert (len(train), len(test)) == (3000, 1000)
    assert np.bincount(train.labels).tolist() == [300] * 10


def test_the_plan_finds_t_shirt_and_shirt_by_itself(tmp_path):
    found = compare(
        "fashion-mnist", preset="smoke", arms=["baseline"], runs=1, out=tmp_path, device="cpu"
    )
    assert (0, 6) in [(pair.first, pair.second) for pair in found.plan.pairs]
    assert found.results["runs"][0]["focus"]["classes"] == [0, 6]
    assert found.results["arms"]["baseline"]["std"] is None


def test_a_comparison_that_augments_nothing_shows_no_augmented_samples(small, finished, tmp_path):
    plain = compare(small, out=tmp_path, runs=1, arms=["baseline"], pairs="0:6", **QUICK)
    pages = [(found.folder / "report.html").read_text("utf-8") for found in (finished, plain)]
    assert ['id="samples"' in page for page in pages] == [True, False]


@pytest.mark.parametrize(
    "options",
    [
        {"runs": 0},
        {"seed": -1},
        {"epochs": 0},
        {"preset": "nope"},
        {"arms": ["nope"]},
        {"pairs": "0-6"},
        {"policy": "nope"},
        {"model": "nope"},
        {"device": "nope"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_arguments_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError):
        resolve_config(**options)


def test_a_folder_of_comparisons_is_answered_with_their_names(tmp_path):
    (tmp_path / "digits-smoke").mkdir()
    (tmp_path / "digits-smoke" / "results.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"did you mean .*digits-smoke\?"):
        rebuild_report(tmp_path)
    with pytest.raises(RunFolderError, match="finish the comparison"):
        rebuild_report(tmp_path / "digits-smoke" / "none")


def test_a_report_of_a_folder_with_too_long_a_name_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot read .*too long"):
        rebuild_report(tmp_path / ("x" * 300))


@pytest.mark.fault(10)
@pytest.mark.parametrize(
    "name",
    ["report.html", "runs.csv", "figures/accuracy.png", "predictions/uniform-0.npz", "config.json"],
)
@pytest.mark.parametrize("resume", [True, False])
def test_files_of_somebody_else_are_not_written_over(tmp_path, name, resume):
    foreign = tmp_path / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text('{"a": 1}')
    with pytest.raises(RunFolderError, match=r"not of a comparison; choose another --out"):
        ComparisonFolder(tmp_path).claim({"dataset": "mnist"}, resume)
    assert foreign.read_text() == '{"a": 1}'


def test_results_among_the_pictures_are_refused(small, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small, data)
    for out in (data, data / "result", data / "train" / "x"):
        with pytest.raises(UsageError, match="own folder"):
            compare(data, out=out, runs=1, **QUICK)
    assert sorted(data.iterdir()) == sorted(data / path.name for path in small.iterdir())
    with pytest.raises(UsageError, match="out is empty"):
        compare(data, out="", runs=1, **QUICK)


def test_predictions_that_are_gone_are_made_again_as_the_advice_says(finished, small, tmp_path):
    folder = ComparisonFolder(tmp_path / "copy")
    shutil.copytree(finished.folder, folder.path)
    folder.predictions("uniform", 0).unlink()
    with pytest.raises(RunFolderError, match=r"remove it, and results\.json if that is there"):
        rebuild_report(folder.path)
    folder.results.unlink()
    again = compare(small, out=folder.path, runs=2, pairs="0:6", **QUICK)
    assert without_times(again.results) == without_times(finished.results)


@pytest.mark.parametrize("key", ["fingerprints", "runs", "environment", "arms"])
def test_results_that_lack_something_are_named(finished, tmp_path, key):
    shutil.copytree(finished.folder, tmp_path / "copy")
    folder = ComparisonFolder(tmp_path / "copy")
    results = json.loads(folder.results.read_text())
    del results[key]
    folder.results.write_text(json.dumps(results))
    folder.checksum.unlink()
    with pytest.raises(RunFolderError, match=r"results\.json is not as a comparison writes it"):
        rebuild_report(folder.path)


def test_a_run_that_was_resumed_elsewhere_says_both(small, tmp_path):
    plan = ConfusionPlan.empty(load_dataset(small).class_names)
    options = {**QUICK, "epochs": 2, "arms": ["uniform"], "plan": plan, "runs": 1}
    whole = compare(small, out=tmp_path / "whole", **options)

    class Stop(Exception):
        pass

    def stop(progress):
        if (tmp_path / "out" / "state" / "uniform-0.safetensors").exists():
            raise Stop

    with pytest.raises(Stop):
        compare(small, out=tmp_path / "out", jobs=1, on_progress=stop, **options)
    record = tmp_path / "out" / "state" / "uniform-0.safetensors"
    assert record.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "describe_environment", older)
        again = compare(small, out=tmp_path / "out", jobs=1, **options)
    torch_version = whole.results["environment"]["torch"]
    assert again.results["environment"]["differing"] == {"torch": [torch_version, "2.0.0"]}
    assert without_times(again.results)["runs"] == without_times(whole.results)["runs"]
    # nothing is left to do: what stands there is of who did it
    folder = ComparisonFolder(tmp_path / "whole")
    folder.results.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "describe_environment", older)
        again = compare(small, out=folder.path, **options)
    assert again.results["environment"]["torch"] == torch_version
    assert again.results["environment"]["differing"] == {}


def older(*arguments):
    return {**describe_environment(*arguments), "torch": "2.0.0"}
