"""How far a whole comparison is, and how long it will take: the runs' fractions, added up."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class OverallProgress:
    """Counts trainings, finished and under way; those of an earlier call cost no time.

    The estimate begins with the first run: the probe is shorter, and says little about them.

    Attributes:
        trainings: how many there are in all, the probe included.
        finished: how many are done, those of an earlier call included.
        under_way: the share that is done of each training under way, by name.
    """

    trainings: int = 1
    finished: int = 0
    under_way: dict[str, float] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _worked: float = 0.0
    _since: float | None = None

    @property
    def done(self) -> float:
        """Trainings done, as a number with a fraction."""
        return self.finished + sum(self.under_way.values())

    def train(self, name: str, share: float, now: float, *, counts: bool = True) -> None:
        """A training is under way.

        Args:
            name: of the training.
            share: how much of it is done, 0–1.
            now: a clock's seconds.
            counts: whether the estimate may be made from it.
        """
        self.under_way[name] = share
        if counts:
            self._since = now if self._since is None else self._since
            # less than before if its process was killed and it is done again
            self._began[name] = min(share, self._began.get(name, share))

    def finish(self, name: str, finished: int) -> None:
        """A training is finished, and so ``finished`` in all."""
        self.under_way.pop(name, None)
        self.finished = finished
        if name in self._began:
            self._worked += 1 - self._began.pop(name)

    def seconds_left(self, now: float) -> float | None:
        """An estimate for the whole comparison; None as long as there is nothing to go by.

        >>> overall = OverallProgress(trainings=10, finished=1)
        >>> overall.train("targeted", 0.0, now=100.0)
        >>> overall.train("targeted", 0.5, now=130.0)
        >>> overall.seconds_left(130.0)
        510.0
        """
        begun = sum(self.under_way[name] - first for name, first in self._began.items())
        worked = self._worked + begun
        if self._since is None or worked < 0.02:
            return None
        return (now - self._since) / worked * (self.trainings - self.done)
