"""Independent runs on a Dask cluster, whose machines need not share a file system.

A run gets what it needs as values and gives its files back as values; only the client writes. The
images are sent once. On a worker each run has a process of its own from `jobs`, with the threads
that it would have on the client: so its numbers are those of a local run, the worker goes on
answering meanwhile, and when the worker dies so does the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import queue
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from fmnist_aug.comparison.jobs import RETRIES, OnRun, Schedule, train_runs
from fmnist_aug.comparison.run import Run, Splits
from fmnist_aug.errors import TrainingError, UsageError
from fmnist_aug.training import TrainProgress

BACKENDS = ("local", "dask")
SAME_VERSIONS = ("fmnist-aug", "torch", "numpy")
"""What must be the same everywhere for runs to be comparable."""
_CONNECT_SECONDS = 10

TrainOn = Callable[[Splits, Run, Callable[[TrainProgress], None]], Any]


def check_backend(backend: str, scheduler: str | None) -> None:
    """Find out before any work that a backend can't be used.

    Raises:
        UsageError: it is unknown or not installed, or there is no scheduler, or one too many.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if backend == "local" and scheduler is not None:
        raise UsageError("a scheduler is of no use on one machine; add --backend dask")
    if backend == "dask":
        _distributed()
        if scheduler is None:
            raise UsageError(
                "a Dask cluster is reached by its scheduler; give --scheduler ADDRESS, such as "
                "tcp://HOST:8786"
            )


@contextlib.contextmanager
def join_cluster(backend: str, scheduler: str | None) -> Iterator[Cluster | None]:
    """Connect to the cluster of a backend that `check_backend` let pass; None for ``local``.

    Raises:
        TrainingError: the scheduler doesn't answer, or has no workers.
    """
    if backend == "local":
        yield None
        return
    try:
        client = _distributed().Client(
            scheduler, timeout=_CONNECT_SECONDS, set_as_default=False, name="fmnist-aug"
        )
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one with: dask scheduler"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        except TimeoutError as error:
            raise TrainingError(
                f"the Dask scheduler at {scheduler} has no workers; start some with: dask worker "
                f"{scheduler}"
            ) from error
        yield Cluster(client)


class Cluster:
    """The workers behind a scheduler.

    Args:
        client: connected to it.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._splits: Any = None

    def train_runs(
        self,
        train: TrainOn,
        splits: Splits,
        runs: Sequence[Run],
        schedule: Schedule,
        on_run: OnRun,
    ) -> None:
        """Train all runs, as `jobs.train_runs` does.

        Args:
            train: trains one; sent with each.
            splits: the images, sent once.
            runs: which.
            schedule: how many at a time, and the threads of each.
            on_run: told what happens.

        Raises:
            TrainingError: a run's worker died again and again, has other versions of the packages,
                or the scheduler is gone.
            Exception: what ``train`` raised first.
        """
        distributed = _distributed()
        topic = f"fmnist-aug-{uuid.uuid4().hex}"
        events: queue.SimpleQueue[tuple[str, Sequence[Any], Any]] = queue.SimpleQueue()
        waiting, futures = deque(runs), dict[Run, Any]()
        begun, lost = Counter[Run](), Counter[Run]()
        self.client.subscribe_topic(topic, lambda event: events.put(event[1]))
        try:
            while waiting or futures:
                while waiting and len(futures) < schedule.jobs:
                    run = waiting.popleft()
                    futures[run] = self._submit(train, splits, run, schedule.threads, topic)
                    futures[run].add_done_callback(
                        functools.partial(_put_done, events=events, run=run)
                    )
                kind, name, value = events.get()
                run = Run(*name)
                if kind == "progress":
                    on_run.progress(run, TrainProgress(**value))
                elif kind == "started":
                    begun[run] += 1
                    if begun[run] > 1:
                        on_run.again(run)
                elif value is futures.get(run):
                    del futures[run]
                    if value.status == "finished":
                        on_run.finished(run, value.result())
                    elif value.status == "error":
                        raise _clear(value.exception(), run, distributed)
                    else:
                        lost[run] += 1
                        self._check_lost(run, lost[run])
                        waiting.appendleft(run)
        finally:
            with contextlib.suppress(Exception):  # what went wrong first is what is told
                self.client.cancel(list(futures.values()))
                self.client.unsubscribe_topic(topic)

    def _submit(self, train: TrainOn, splits: Splits, run: Run, threads: int, topic: str) -> Any:
        if self._splits is None:
            # in a list, for a tuple would be taken apart; workers pass it on to one another
            (self._splits,) = self.client.scatter([splits], hash=False)
        return self.client.submit(
            train_on_worker,
            train,
            self._splits,
            run,
            threads,
            {name: version(name) for name in SAME_VERSIONS},
            topic,
            key=f"{topic}-{run.arm}-{run.seed}-{uuid.uuid4().hex[:8]}",
            pure=False,
        )

    def _check_lost(self, run: Run, times: int) -> None:
        """A run is lost if no worker is left that holds the images, or with the scheduler."""
        if self.client.status != "running" or times > RETRIES:
            raise TrainingError(
                f"the Dask cluster lost {run} {times} times; what is finished is kept: look after "
                "the scheduler and its workers, and try the same command again"
            )
        self._splits = None


def train_on_worker(
    train: TrainOn, splits: Splits, run: Run, threads: int, versions: dict[str, str], topic: str
) -> Any:
    """What a worker does: the run in a process of its own, telling the client how far it is."""
    worker = _distributed().get_worker()
    for name, wanted in versions.items():
        if version(name) != wanted:
            raise TrainingError(
                f"the Dask worker {worker.address} has {name} {version(name)}, the client "
                f"{wanted}; install the same, or runs could not be compared"
            )
    key = worker.get_current_task()

    def tell(kind: str, value: Any = None) -> None:
        worker.log_event(topic, (kind, tuple(run), value))

    def progress(_: Run, training: TrainProgress) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise TrainingError("nobody waits for this run any more")
        tell("progress", dataclasses.asdict(training))

    found: list[Any] = []
    tell("started")
    train_runs(
        functools.partial(train, splits),
        [run],
        Schedule(2, threads),  # more than one, so that it gets a process of its own
        OnRun(
            progress=progress,
            finished=lambda _, value: found.append(value),
            again=lambda _: tell("started"),
        ),
    )
    return found[0]


def _put_done(
    future: Any, events: queue.SimpleQueue[tuple[str, Sequence[Any], Any]], run: Run
) -> None:
    events.put(("done", run, future))


def _clear(error: BaseException, run: Run, distributed: Any) -> BaseException:
    if isinstance(error, distributed.KilledWorker):
        return TrainingError(
            f"the Dask workers that trained {run} died again and again, perhaps since memory ran "
            "out; what is finished is kept: try the same command with fewer --jobs"
        )
    if isinstance(error, ImportError):
        return TrainingError(
            f"a Dask worker cannot train {run} ({error}); install fmnist-aug on each worker"
        )
    return error


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise UsageError(
            "a Dask cluster needs Dask; install it with: pip install 'fmnist-aug[dask]'"
        ) from None
    return distributed
