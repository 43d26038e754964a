"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fmnist_aug.cli.overall import OverallProgress
from fmnist_aug.text import plain

if TYPE_CHECKING:
    from fmnist_aug.comparison import ComparisonProgress
    from fmnist_aug.training import TrainProgress

WHOLE = "whole comparison"
PROBE = "probe"
_LINE_SECONDS = 15


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """A training goes on if nobody watches it any more; rich would end the program."""
        self.quiet = True


class ProgressDisplay:
    """Shows trainings, one after the other or side by side; use as a context manager.

    Args:
        quiet: show nothing.
        console: where to show it; stderr by default.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or _Console(stderr=True, quiet=quiet, highlight=False)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[details]}", markup=False),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.lines = not quiet and not self.console.is_terminal
        self.started = time.monotonic()
        self.last_lines: dict[str, float] = {}
        self.overall = OverallProgress()

    def __enter__(self) -> ProgressDisplay:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(plain(text), markup=False, soft_wrap=True)

    def training(self, name: str, progress: TrainProgress, left: str | None = None) -> None:
        """Update the bar of a training, or now and then print a line.

        Args:
            name: of the training.
            progress: how far it is.
            left: time left, in words; by default that of this training.
        """
        details = (
            f"epoch {progress.epoch:.1f}/{progress.epochs:.1f}  accuracy {progress.accuracy:.1%}  "
            f"{progress.images_per_second:,.0f} images/s"
        )
        now = time.monotonic()
        left = f"{_duration(progress.seconds_left)} left" if left is None else left
        if self.lines and now - self.last_lines.get(name, self.started) > _LINE_SECONDS:
            self.last_lines[name] = now
            self.say("  ".join(filter(None, (f"{name}: {details}", left))))
        if WHOLE not in self.tasks:
            details = f"{details}  {left}"
        self._bar(name, progress.step, progress.steps, details)
        if progress.step == progress.steps:
            self.bars.remove_task(self.tasks.pop(name))

    def comparison(self, event: ComparisonProgress) -> None:
        """Show what happens in a comparison, and how far all of it is."""
        name = PROBE if event.stage in ("probe", "plan") else f"{event.arm} (seed {event.seed})"
        count = f"[{event.run}/{event.runs}]"
        overall, now = self.overall, time.monotonic()
        overall.trainings, overall.finished = event.runs, event.run
        if event.training is not None:
            overall.train(name, event.training.share, now, counts=event.stage == "train")
        elif event.stage in ("plan", "finished"):
            overall.finish(name, event.run)
        seconds = overall.seconds_left(now)
        left = "" if seconds is None else f"{_duration(seconds)} left in all"
        self._bar(WHOLE, overall.done, overall.trainings, f"{count} trainings  {left}")
        if event.training is not None:
            self.training(name, event.training, left)
        elif event.stage == "plan" and event.plan is not None:
            names = event.plan.class_names
            pairs = ", ".join(f"{names[p.first]} – {names[p.second]}" for p in event.plan.pairs)
            self.say(f"{count} confused pairs: {pairs or event.plan.reason}")
        elif event.stage == "finished":
            self.say(f"{count} {name}: test accuracy {event.accuracy:.2%}")
        elif event.stage == "again":
            self.say(f"{name}: its process was killed; it is done again from its last epoch")
        elif event.stage == "report":
            self.say("writing the report")

    def _bar(self, name: str, completed: float, total: float, details: str) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=total, details="")
        self.bars.update(self.tasks[name], completed=completed, total=total, details=details)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
