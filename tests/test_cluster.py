import logging
import sys
import threading
import time
from functools import partial

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from test_jobs import OPTIONS, RUNS, Recorder, pretend, without_times

from fmnist_aug import compare
from fmnist_aug.cli.main import cli
from fmnist_aug.comparison import cluster as cluster_module
from fmnist_aug.comparison.cluster import Cluster, check_backend, join_cluster
from fmnist_aug.comparison.jobs import Schedule
from fmnist_aug.errors import TrainingError, UsageError

distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")  # which it needs


@pytest.fixture(scope="module")
def cluster():
    """Two workers with nothing in common but the network; a nanny starts a dead one again."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as started:
        yield started


def kill_a_worker_at_work(cluster, arm, killed):
    """Wait until a run of this arm is under way, and kill the worker that does it."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for state in list(cluster.scheduler.workers.values()):
            worker = psutil.Process(cluster.workers[state.name].pid)
            at_work = any(arm in str(task.key) for task in list(state.processing))
            if at_work and worker.children():  # the run has begun, in a process of its own
                worker.kill()
                killed.append(state.address)
                return
        time.sleep(0.02)


@pytest.mark.fault(8)
def test_a_comparison_whose_worker_is_killed_has_the_results_of_a_local_one(
    small, cluster, tmp_path
):
    options = {"runs": 1, "arms": ("baseline", "targeted"), **OPTIONS, "pairs": "auto"}
    local = compare(small, out=tmp_path / "local", jobs=1, **options)
    events, killed = [], []
    killer = threading.Thread(target=kill_a_worker_at_work, args=(cluster, "targeted", killed))
    killer.start()
    found = compare(
        small,
        out=tmp_path / "dask",
        backend="dask",
        scheduler=cluster.scheduler_address,
        on_progress=events.append,
        **options,
    )
    killer.join()
    assert len(killed) == 1
    assert without_times(found.results) == without_times(local.results)
    assert found.results["environment"]["backend"] == "dask"
    assert found.results["environment"]["differing"] == {}
    for path in (local.folder / "checkpoints").iterdir():
        one, other = (
            load_file(folder / "checkpoints" / path.name) for folder in (local.folder, found.folder)
        )
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [event.arm for event in events if event.stage == "again"] == ["targeted"]
    trained = {(event.stage, event.arm) for event in events if event.training}
    assert trained == {("probe", "probe"), ("train", "baseline"), ("train", "targeted")}

    # as if the client had been killed before the last run came back
    (found.folder / "results.json").unlink()
    (found.folder / "records" / "targeted-0.json").unlink()
    events.clear()
    again = compare(small, out=found.folder, jobs=1, on_progress=events.append, **options)
    assert without_times(again.results) == without_times(local.results)
    assert {event.arm for event in events if event.training} == {"targeted"}


def with_splits(function, splits, run, on_progress):
    assert splits == ("train", "test")
    return function(run, on_progress)


def test_runs_are_told_of_and_repeated_as_in_local_processes(cluster, tmp_path):
    recorder = Recorder()
    train = partial(with_splits, partial(pretend, tmp_path, dies={1: 1}))
    with join_cluster("dask", cluster.scheduler_address) as joined:
        joined.train_runs(
            train, ("train", "test"), RUNS[:2], Schedule(2, 1), recorder.on_run, "name"
        )
        assert sorted(recorder.done) == [0, 1]
        assert recorder.repeated == [1]
        assert {figures["threads"] for figures in recorder.done.values()} == {1}
        assert (0, 2) in recorder.told

        fails = partial(with_splits, partial(pretend, tmp_path, fails=[3]))
        with pytest.raises(TrainingError, match="run 3 failed"):
            joined.train_runs(
                fails, ("train", "test"), RUNS[3:], Schedule(1, 1), recorder.on_run, "name"
            )


def test_a_worker_with_another_version_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(cluster_module, "version", lambda name: "0.0.1")
    with (
        join_cluster("dask", cluster.scheduler_address) as joined,
        pytest.raises(TrainingError, match=r"has fmnist-aug .*, the client 0\.0\.1; install"),
    ):
        joined.train_runs(
            pretend, ("train", "test"), RUNS[:1], Schedule(1, 1), Recorder().on_run, "name"
        )


def test_a_scheduler_that_is_not_there_or_has_no_workers(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster_module, "_CONNECT_SECONDS", 1)
    command = ["compare", "--preset", "smoke", "--quiet", "--out", str(tmp_path / "out")]
    command += ["--backend", "dask", "--scheduler"]
    failed = CliRunner().invoke(cli, [*command, "tcp://127.0.0.1:9"])
    assert isinstance(failed.exception, TrainingError)
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in str(failed.exception)
    assert not (tmp_path / "out").exists()
    with (
        distributed.LocalCluster(
            n_workers=0,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as empty,
        pytest.raises(TrainingError, match="has no workers"),
        join_cluster("dask", empty.scheduler_address),
    ):
        pass


def test_a_backend_that_cannot_be_used(monkeypatch):
    for backend, scheduler, said in (
        ("local", "tcp://127.0.0.1:1", "add --backend dask"),
        ("dask", None, "give --scheduler"),
        ("spark", None, "local, dask"),
    ):
        with pytest.raises(UsageError, match=said):
            check_backend(backend, scheduler)
        with pytest.raises(UsageError, match=said):
            compare(backend=backend, scheduler=scheduler)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'fmnist-aug\[dask\]'"):
        check_backend("dask", "tcp://127.0.0.1:1")


def test_here_there_is_no_cluster_to_join():
    with join_cluster("local", None) as joined:
        assert joined is None
    assert Cluster(None).client is None
