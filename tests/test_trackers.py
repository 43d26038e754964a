import json
import math
import subprocess
import sys

import pytest

from fmnist_aug import trackers
from fmnist_aug.errors import UsageError
from fmnist_aug.trackers import open_trackers
from fmnist_aug.training import TrainProgress

# raised inside MLflow and what it builds on, not by our calls
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*noload.*")


def progress(step, loss):
    return TrainProgress(step, 20, step / 10, 2.0, step / 20, loss, 100.0, 1.0, step / 20)


def tensorboard_scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_keeps_each_run_by_step(tmp_path):
    pytest.importorskip("tensorboard")
    with open_trackers(tmp_path / "events", name="a test") as opened:
        opened.training("targeted-0", progress(10, 2.0))
        opened.training("targeted-0", progress(20, math.nan))
        opened.finished("targeted-0", 0.75)
        opened.training("uniform-0", progress(10, 3.0))
    found = tensorboard_scalars(tmp_path / "events" / "targeted-0")
    assert found["train_loss"] == [(10, 2.0)]  # NaN is left out
    assert found["train_accuracy"] == [(10, 0.5), (20, 1.0)]
    assert found["test_accuracy"] == [(20, 0.75)]
    assert tensorboard_scalars(tmp_path / "events" / "uniform-0")["train_loss"] == [(10, 3.0)]


def test_mlflow_keeps_a_parent_and_a_nested_run_for_each_training(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    options = {"preset": "smoke", "pairs": None}
    with open_trackers(None, uri, name="compare", parameters=options) as opened:
        opened.training("targeted-0", progress(10, 2.0))
        opened.finished("targeted-0", 0.75)
    with pytest.raises(KeyboardInterrupt), open_trackers(None, uri, name="stopped"):
        raise KeyboardInterrupt
    client = mlflow.MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == trackers.EXPERIMENT]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs["compare"].data.params == {"preset": "smoke"}
    assert runs["targeted-0"].data.tags["mlflow.parentRunId"] == runs["compare"].info.run_id
    assert runs["targeted-0"].data.metrics["test_accuracy"] == 0.75
    assert runs["targeted-0"].info.status == runs["compare"].info.status == "FINISHED"
    assert runs["stopped"].info.status == "KILLED"
    assert mlflow.active_run() is None


def test_a_tracker_that_fails_is_dropped_and_said_and_the_training_goes_on():
    class Broken:
        def log(self, run, metrics, step):
            raise OSError("the server is away")

    class Kept:
        logged = 0

        def log(self, run, metrics, step):
            self.logged += 1

    kept = Kept()
    both = trackers.Trackers([Broken(), kept])
    with pytest.warns(UserWarning, match="the server is away"):
        both.finished("a", 0.5)
    both.finished("b", 0.5)
    assert kept.logged == 2


def test_nothing_asked_for_imports_nothing():
    code = (
        "import sys\nfrom fmnist_aug.trackers import open_trackers\n"
        "with open_trackers(name='x') as opened: opened.finished('a', 0.5)\n"
        "assert not {'mlflow', 'tensorboard', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_missing_package_or_a_bad_store_is_said_before_training(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="choose another folder"),
        open_trackers(tmp_path / "file", name="x"),
    ):
        pass
    with (
        pytest.raises(UsageError, match="MLflow store"),
        open_trackers(None, "nonsense://x", name="x"),
    ):
        pass
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for tensorboard, mlflow in (("x", None), (None, "x")):
        with (
            pytest.raises(UsageError, match=r"fmnist-aug\[(tensorboard|mlflow)\]"),
            open_trackers(tensorboard, mlflow, name="x"),
        ):
            pass


def test_train_and_compare_write_event_files(small, tmp_path):
    pytest.importorskip("tensorboard")
    common = ["--dataset", str(small), "--preset", "smoke", "--epochs", "0.3", "--device", "cpu"]
    common += ["--quiet", "--json", "--tensorboard", "events"]
    compared = ["compare", "--runs", "1", "--arm", "targeted", "--jobs", "1", "--out", "out"]
    for command in (["train"], compared):
        done = subprocess.run(
            [sys.executable, "-m", "fmnist_aug", *command, *common],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
    runs = {run["arm"]: run["test_accuracy"] for run in told["runs"]}
    folders = {path.name for path in (tmp_path / "events").iterdir()}
    assert folders == {"train-0", "probe-0", "targeted-0"}
    for arm, accuracy in runs.items():
        ((_, kept),) = tensorboard_scalars(tmp_path / "events" / f"{arm}-0")["test_accuracy"]
        assert kept == pytest.approx(accuracy)
