"""Independent runs on a Dask cluster, whose machines need not share a file system.

A run gets what it needs as values and gives its files back as values; only the client writes. The
images are sent to each worker once. On a worker each run has a process of its own from `jobs`,
with the threads that it would have on the client: so its numbers are those of a local run, the
worker goes on answering meanwhile, and when the worker dies so does the run.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fmnist_aug.comparison.jobs import OnRun, Schedule
from fmnist_aug.comparison.run import Run, Splits
from fmnist_aug.errors import TrainingError, UsageError
from fmnist_aug.training import TrainProgress

if TYPE_CHECKING:
    from fmnist_aug.comparison.cluster_worker import TrainOn

BACKENDS = ("local", "dask")
SAME_VERSIONS = ("fmnist-aug", "torch", "numpy")
"""What must be the same everywhere for runs to be comparable."""
_CONNECT_SECONDS = 10


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
        cluster = Cluster(client)
        try:
            yield cluster
        finally:
            cluster.forget()


class Cluster:
    """The workers behind a scheduler.

    Args:
        client: connected to it.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._kept: set[str] = set()

    def forget(self) -> None:
        """Let the workers forget the images."""
        with contextlib.suppress(Exception):  # the scheduler may have gone
            for name in self._kept:
                self.client.unregister_worker_plugin(name)

    def train_runs(
        self,
        train: TrainOn,
        splits: Splits,
        runs: Sequence[Run],
        schedule: Schedule,
        on_run: OnRun,
        name: str,
    ) -> None:
        """Train all runs, as `jobs.train_runs` does.

        Args:
            train: trains one; sent with each.
            splits: the images, sent to each worker the first time.
            runs: which.
            schedule: how many at a time, and the threads of each.
            on_run: told what happens.
            name: under which the workers keep the images until `forget`; those of a client that
                was killed are replaced if it comes again with the same name.

        Raises:
            TrainingError: a run's worker died again and again, has other versions of the packages,
                or the scheduler is gone.
            Exception: what ``train`` raised first.
        """
        from fmnist_aug.comparison.cluster_worker import KeptSplits, train_on_worker

        topic = f"fmnist-aug-{uuid.uuid4().hex}"
        versions = {package: version(package) for package in SAME_VERSIONS}
        events: queue.SimpleQueue[tuple[str, Sequence[Any], Any]] = queue.SimpleQueue()
        waiting, begun = deque(runs), Counter[Run]()
        futures: dict[Run, Any] = {}
        try:
            self.client.subscribe_topic(topic, lambda event: events.put(event[1]))
            if name not in self._kept:
                try:
                    self.client.register_plugin(KeptSplits(splits, name))
                except ImportError as error:
                    raise _not_installed(error) from error
                self._kept.add(name)
            while waiting or futures:
                while waiting and len(futures) < schedule.jobs:
                    run = waiting.popleft()
                    futures[run] = self.client.submit(
                        train_on_worker,
                        train,
                        name,
                        run,
                        schedule.threads,
                        versions,
                        topic,
                        key=f"{topic}-{run.arm}-{run.seed}",
                        pure=False,
                    )
                    futures[run].add_done_callback(
                        functools.partial(_put_done, events=events, run=run)
                    )
                kind, run_name, value = events.get()
                run = Run(*run_name)
                if run not in futures:  # a late word of one that is done
                    continue
                if kind == "progress":
                    on_run.progress(run, TrainProgress(**value))
                elif kind == "started":
                    begun[run] += 1
                    if begun[run] > 1:
                        on_run.again(run)
                else:
                    del futures[run]
                    on_run.finished(run, _result(value, run))
        finally:
            with contextlib.suppress(Exception):  # what went wrong first is what is told
                self.client.cancel(list(futures.values()))
                self.client.unsubscribe_topic(topic)


def _put_done(
    future: Any, events: queue.SimpleQueue[tuple[str, Sequence[Any], Any]], run: Run
) -> None:
    events.put(("done", run, future))


def _result(future: Any, run: Run) -> Any:
    """What a run's task came to; a worker's death has made Dask repeat it up to three times."""
    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise TrainingError(
            f"the connection to the Dask scheduler broke while {run} was trained; what is finished "
            "is kept: try the same command again"
        )
    error = future.exception()
    if isinstance(error, _distributed().KilledWorker):
        raise TrainingError(
            f"the Dask workers that trained {run} died again and again, perhaps since memory ran "
            "out; what is finished is kept: try the same command with fewer --jobs"
        )
    if isinstance(error, ImportError):
        raise _not_installed(error)
    raise error


def _not_installed(error: ImportError) -> TrainingError:
    return TrainingError(f"a Dask worker cannot train ({error}); install fmnist-aug on each worker")


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise UsageError(
            "a Dask cluster needs Dask; install it with: pip install 'fmnist-aug[dask]'"
        ) from None
    return distributed
