import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import joblib
import pytest
import torch
from safetensors.torch import load_file

from fmnist_aug import compare
from fmnist_aug.comparison import jobs
from fmnist_aug.comparison.jobs import OnRun, Schedule, make_schedule, train_runs
from fmnist_aug.comparison.run import Run
from fmnist_aug.errors import TrainingError, UsageError
from fmnist_aug.training import TrainProgress

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
RUNS = [Run("baseline", seed) for seed in range(4)]


def progress(step):
    return TrainProgress(step, 2, step, 2, 0.5, 1.0, 100.0, 1.0, step / 2)


def pretend(folder, run, on_progress, *, dies=(), fails=()):
    """Stands in for a training: tells, leaves a file for each attempt, and dies as asked."""
    attempts = folder / f"attempts-{run.seed}"
    with attempts.open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    on_progress(progress(1))
    if run.seed in fails:
        raise TrainingError(f"run {run.seed} failed")
    if len(attempts.read_text().splitlines()) <= dict(dies).get(run.seed, 0):
        os.kill(os.getpid(), signal.SIGKILL)
    on_progress(progress(2))
    return {"seed": run.seed, "threads": torch.get_num_threads(), "pid": os.getpid()}


class Recorder:
    def __init__(self):
        self.told, self.done, self.repeated = [], {}, []
        self.on_run = OnRun(
            lambda run, training: self.told.append((run.seed, training.step)),
            lambda run, figures: self.done.update({run.seed: figures}),
            lambda run: self.repeated.append(run.seed),
        )


@pytest.mark.parametrize("number", [1, 8])
def test_all_runs_are_trained_and_told_of_whatever_the_number_of_jobs(tmp_path, number):
    recorder, before = Recorder(), torch.get_num_threads()
    train_runs(partial(pretend, tmp_path), RUNS, Schedule(number, 1), recorder.on_run)
    assert sorted(recorder.done) == [0, 1, 2, 3]
    assert {figures["threads"] for figures in recorder.done.values()} == {1}
    assert sorted(recorder.told) == [(seed, step) for seed in range(4) for step in (1, 2)]
    processes = {figures["pid"] for figures in recorder.done.values()}
    assert (processes == {os.getpid()}) if number == 1 else len(processes) == 4
    assert torch.get_num_threads() == before


@pytest.mark.fault(8)
@posix
def test_a_killed_worker_loses_only_its_own_run_which_is_done_again(tmp_path):
    recorder = Recorder()
    train = partial(pretend, tmp_path, dies={1: 1, 2: 2})
    train_runs(train, RUNS, Schedule(2, 1), recorder.on_run)
    assert sorted(recorder.done) == [0, 1, 2, 3]
    assert sorted(recorder.repeated) == [1, 2, 2]
    attempts = [len((tmp_path / f"attempts-{n}").read_text().splitlines()) for n in range(4)]
    assert attempts == [1, 2, 3, 1]


@pytest.mark.fault(8)
@posix
def test_a_run_whose_worker_always_dies_is_given_up_and_the_others_keep_what_they_have(tmp_path):
    recorder = Recorder()
    with pytest.raises(TrainingError, match=r"baseline \(seed 3\) was killed 3 times"):
        train_runs(partial(pretend, tmp_path, dies={3: 9}), RUNS, Schedule(2, 1), recorder.on_run)
    assert {0, 1} <= set(recorder.done)


def test_an_error_in_a_worker_arrives_as_it_is(tmp_path):
    with pytest.raises(TrainingError) as raised:
        train_runs(partial(pretend, tmp_path, fails=[2]), RUNS, Schedule(2, 1), Recorder().on_run)
    assert str(raised.value) == "run 2 failed"
    assert "in pretend" in raised.value.__notes__[0]


@pytest.mark.parametrize(
    ("cores", "runs", "asked", "expected"),
    [
        (2, 9, None, Schedule(2, 1)),
        (2, 9, 1, Schedule(1, 1)),
        (2, 9, 4, Schedule(4, 1)),
        (2, 1, None, Schedule(1, 2)),
        (16, 3, None, Schedule(3, 5)),
        (16, 3, 1, Schedule(1, 5)),
        (16, 9, None, Schedule(9, 1)),
        (1, 9, None, Schedule(1, 1)),
    ],
)
def test_threads_follow_from_cores_and_runs_and_never_from_jobs(
    cores, runs, asked, expected, monkeypatch
):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    found = make_schedule(asked, runs, "cpu")
    assert found == expected
    if asked is None:
        assert found.jobs * found.threads <= cores


def test_a_gpu_does_one_run_at_a_time_unless_told_otherwise():
    assert make_schedule(None, 9, "cuda").jobs == 1
    assert make_schedule(2, 9, "cuda").jobs == 2
    with pytest.raises(UsageError, match="at least 1"):
        make_schedule(0, 9, "cpu")


def without_times(results):
    results = json.loads(json.dumps(results))
    del results["environment"]
    for run in results["runs"]:
        del run["train_seconds"]
    return results


OPTIONS = {"preset": "smoke", "epochs": 0.3, "device": "cpu", "precision": "fp32", "pairs": "0:6"}


@pytest.fixture(scope="module")
def one_at_a_time(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("jobs-1")
    return compare(small, out=out, runs=2, jobs=1, **OPTIONS)


@pytest.mark.fault(16)
def test_a_comparison_is_the_same_to_the_bit_for_any_number_of_jobs(small, one_at_a_time, tmp_path):
    events = []
    found = compare(small, out=tmp_path, runs=2, jobs=2, on_progress=events.append, **OPTIONS)
    assert without_times(found.results) == without_times(one_at_a_time.results)
    for path in (one_at_a_time.folder / "checkpoints").iterdir():
        one, other = (
            load_file(folder / path.name) for folder in (path.parent, tmp_path / "checkpoints")
        )
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "config.json").read_bytes() == (
        one_at_a_time.folder / "config.json"
    ).read_bytes()
    shown = {
        (event.arm, event.seed) for event in events if event.training and event.stage != "probe"
    }
    assert len(shown) == 6


def endless(folder, run, on_progress):
    """A training that never ends by itself, and says which process it is."""
    (folder / f"pid-{run.seed}").write_text(str(os.getpid()))
    while True:
        on_progress(progress(1))
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition):
    deadline = time.monotonic() + 300  # for a machine that is busy with other things
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.fault(9)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, number):
    code = (
        f"import sys, pathlib; sys.path[:] = {sys.path!r}\n"
        "import test_jobs as t\n"
        f"train = t.partial(t.endless, pathlib.Path({str(tmp_path)!r}))\n"
        "t.train_runs(train, t.RUNS, t.Schedule(2, 1), t.Recorder().on_run)"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(
            lambda: (
                sum(bool(path.read_text()) for path in tmp_path.glob("pid-*")) == 2
                or started.poll() is not None
            )
        )
        workers = [int(path.read_text()) for path in tmp_path.glob("pid-*")]
        assert len(workers) == 2
        assert all(map(alive, workers))
        # Ctrl-C in a terminal goes to the whole group
        (os.killpg if number == signal.SIGINT else os.kill)(started.pid, number)
        _, told = started.communicate(timeout=300)
    finally:
        started.kill()
        started.communicate()
    if number == signal.SIGINT:  # nobody but the parent says anything
        assert told.count("Traceback") == 1
        assert told.splitlines()[-1] == "KeyboardInterrupt"
        assert not any(map(alive, workers)), "the parent did not wait for its workers"
    wait_for(lambda: not any(map(alive, workers)))


def test_each_run_can_have_a_process_from_scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_FORKS", False)  # as on macOS
    recorder = Recorder()
    train_runs(partial(pretend, tmp_path, dies={0: 1}), RUNS[:2], Schedule(2, 1), recorder.on_run)
    assert sorted(recorder.done) == [0, 1]
    assert recorder.repeated == [0]
