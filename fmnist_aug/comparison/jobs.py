"""Independent runs side by side: processes that die alone and never outlive their parent."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import joblib
import torch

from fmnist_aug.comparison.run import Run
from fmnist_aug.comparison.sharing import dump
from fmnist_aug.comparison.worker import GRACE_SECONDS
from fmnist_aug.computing import use_threads
from fmnist_aug.errors import TrainingError, UsageError
from fmnist_aug.training import TrainProgress

RETRIES = 2
"""How often a run whose process was killed is done again."""
_SIDE_BY_SIDE = os.name == "posix"
"""Windows can't hand an open pipe to a running process."""
_FORKS = sys.platform == "linux"
"""macOS libraries don't survive a fork; there each run starts a process from scratch."""

TrainRun = Callable[[Run, Callable[[TrainProgress], None]], Any]


@dataclass(frozen=True)
class Schedule:
    """How many runs at a time, and on how many threads each.

    Attributes:
        jobs: runs side by side; 1 means in this process, which otherwise trains nothing itself
            and stays small.
        threads: of each run, whatever ``jobs`` is: a sum of floats depends on the number of
            threads that share it, so only then is each run the same for any number of jobs.
    """

    jobs: int
    threads: int


@dataclass(frozen=True)
class OnRun:
    """What to call as runs go on; always in the thread that called `train_runs`."""

    progress: Callable[[Run, TrainProgress], None]
    finished: Callable[[Run, Any], None]
    again: Callable[[Run], None]


def make_schedule(jobs: int | None, runs: int, device: str) -> Schedule:
    """Divide the processor among the runs of a comparison.

    The cores are those that this process may use, fewer if OMP_NUM_THREADS says so. With as many
    runs as cores one thread each is the most efficient; fewer runs get several threads each. A
    GPU does one run at a time.

    Args:
        jobs: at most so many at a time; None for as many as the cores can do.
        runs: how many runs the comparison has.
        device: where they are trained.

    Raises:
        UsageError: fewer than one job, or several on Windows.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be at least 1, not {jobs}")
    if jobs is not None and jobs > 1 and not _SIDE_BY_SIDE:
        raise UsageError("several jobs need Linux or macOS; use --jobs 1")
    cores = min(torch.get_num_threads(), joblib.cpu_count())
    if device != "cpu" or not _SIDE_BY_SIDE:
        return Schedule(min(jobs or 1, runs), cores)
    threads = max(1, cores // runs)
    return Schedule(min(jobs or cores // threads, runs), threads)


def train_runs(train: TrainRun, runs: Sequence[Run], schedule: Schedule, on_run: OnRun) -> None:
    """Train all runs, in this order as far as they are not side by side.

    Args:
        train: trains one; sent to another process with all that it holds.
        runs: which.
        schedule: how many at a time.
        on_run: told what happens.

    Raises:
        TrainingError: a run's process was killed three times.
        Exception: what ``train`` raised first; the other runs are stopped, what they have kept
            stays.
    """
    if schedule.jobs == 1:
        with use_threads(schedule.threads):
            for run in runs:
                on_run.finished(run, train(run, functools.partial(on_run.progress, run)))
        return
    waiting, deaths = deque(runs), Counter[Run]()
    with _Workers(train, schedule.threads) as workers:
        while waiting or workers.busy:
            while waiting and len(workers.busy) < schedule.jobs:
                workers.start(waiting.popleft())
            for run, kind, value in workers.events():
                if kind == "progress":
                    on_run.progress(run, value)
                elif kind == "finished":
                    on_run.finished(run, value)
                elif kind == "failed":
                    raise value
                else:
                    deaths[run] += 1
                    _check_deaths(run, deaths[run])
                    waiting.appendleft(run)
                    on_run.again(run)


def _check_deaths(run: Run, deaths: int) -> None:
    if deaths > RETRIES:
        raise TrainingError(
            f"the process that trained {run} was killed {deaths} times, perhaps since memory ran "
            "out; what is finished is kept: try the same command with fewer --jobs"
        )


class _Workers:
    """Runs under way, each in a process with a pipe of its own to this one.

    When a process dies, its pipe tells; when this process dies, the pipes tell the others.
    """

    def __init__(self, train: TrainRun, threads: int) -> None:
        self.busy: dict[Connection, Run] = {}
        self._pids: dict[Connection, int] = {}
        self._work = train, threads
        self._control: socket.socket | None = None
        self._servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_control()
        for pipe in self.busy:
            with contextlib.suppress(OSError):
                pipe.send("end")
        # they must not write any more once the folder is given up
        deadline = time.monotonic() + GRACE_SECONDS + 1
        while self.busy and (left := deadline - time.monotonic()) > 0:
            for pipe in self._ready(left):
                self._receive(pipe)
        for pipe in list(self.busy):
            if pipe in self._pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pids[pipe], signal.SIGKILL)
            pipe.close()
        for server in self._servers:
            server.kill()
            server.wait()

    def start(self, run: Run) -> None:
        """Begin a run; `events` tells of it."""
        ours, theirs = Pipe()
        self.busy[ours] = run
        # if a server is gone, so is its end of the pipe: `events` tells, and the next is new
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), theirs:
            if self._control is None:
                self._control = self._start_server()
            try:
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
                ours.send(run)
            except OSError:
                self._close_control()
        if not _FORKS:
            self._close_control()

    def events(self) -> Iterator[tuple[Run, str, Any]]:
        """Wait for what happens: (run, "progress" | "finished" | "failed" | "died", value)."""
        for pipe in self._ready():
            run = self.busy[pipe]
            kind, value = self._receive(pipe)
            if kind != "started":
                yield run, kind, value

    def _ready(self, timeout: float | None = None) -> list[Connection]:
        ready = wait(list(self.busy), timeout)
        return [pipe for pipe in self.busy if pipe in ready]

    def _receive(self, pipe: Connection) -> tuple[str, Any]:
        try:
            kind, value = pipe.recv()
        except (EOFError, OSError):
            kind, value = "died", None
        if kind == "started":
            self._pids[pipe] = value
        elif kind != "progress":
            del self.busy[pipe]
            self._pids.pop(pipe, None)
            pipe.close()
        return kind, value

    def _start_server(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        code = (
            # as Python itself does, passing over what is no text
            f"import sys; sys.path[:] = {[item for item in sys.path if isinstance(item, str)]!r}\n"
            "from fmnist_aug.comparison.worker import serve\n"
            f"serve({theirs.fileno()}, {_FORKS})"
        )
        work, descriptors = dump(self._work)
        with theirs, _interrupts_held():
            self._servers.append(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    pass_fds=[theirs.fileno(), *descriptors],
                    stdin=subprocess.DEVNULL,
                    env={
                        **os.environ,
                        "OMP_NUM_THREADS": str(self._work[1]),
                        "OPENBLAS_NUM_THREADS": "1",  # it would start them at import
                    },
                )
            )
        with Connection(os.dup(ours.fileno())) as inputs:
            inputs.send_bytes(work)
        return ours

    def _close_control(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C while a process starts: it inherits that, so only the parent hears it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
