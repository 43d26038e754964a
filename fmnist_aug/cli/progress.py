"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fmnist_aug.report.wording import plain

if TYPE_CHECKING:
    from fmnist_aug.comparison import ComparisonProgress
    from fmnist_aug.training import TrainProgress

_LINE_SECONDS = 15


class ProgressDisplay:
    """Shows trainings, one after the other or side by side; use as a context manager.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
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

    def training(self, name: str, progress: TrainProgress) -> None:
        """Update the bar of a training, or now and then print a line."""
        details = (
            f"epoch {progress.epoch:.1f}/{progress.epochs:.1f}  accuracy {progress.accuracy:.1%}  "
            f"{progress.images_per_second:,.0f} images/s  {_duration(progress.seconds_left)} left"
        )
        now = time.monotonic()
        if self.lines and now - self.last_lines.get(name, self.started) > _LINE_SECONDS:
            self.last_lines[name] = now
            self.say(f"{name}: {details}")
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=progress.steps, details="")
        self.bars.update(self.tasks[name], completed=progress.step, details=details)
        if progress.step == progress.steps:
            self.bars.remove_task(self.tasks.pop(name))

    def comparison(self, event: ComparisonProgress) -> None:
        """Show what happens in a comparison."""
        name = f"{event.arm} (seed {event.seed})"
        if event.training is not None:
            self.training(name, event.training)
        elif event.stage == "plan" and event.plan is not None:
            names = event.plan.class_names
            pairs = ", ".join(f"{names[p.first]} – {names[p.second]}" for p in event.plan.pairs)
            self.say(f"[{event.run}/{event.runs}] confused pairs: {pairs or event.plan.reason}")
        elif event.stage == "finished":
            self.say(f"[{event.run}/{event.runs}] {name}: test accuracy {event.accuracy:.2%}")
        elif event.stage == "again":
            self.say(f"{name}: its process was killed; it is done again from its last epoch")
        elif event.stage == "report":
            self.say("writing the report")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
