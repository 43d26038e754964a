"""The plan: which classes get extra draws, how many, with which augmentation, and why."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmnist_aug.confusion import ConfusedPair, ConfusionReport
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.pairs import MAX_PAIRS, find_pairs, given_pairs, read_pair

SCHEMA = 1
EXTRA_PER_IMAGE = 0.5
"""Extra draws per image of the most confused class."""
SMALLEST_SCALE = 0.25
"""A targeted class gets at least this share of `EXTRA_PER_IMAGE`."""
SHARE_FOR_OTHERS = 0.1
"""Share of the targeted extras that is spread over the other classes on top, so that the traces
of the augmentation don't tell the network the class."""
KEEP = 0.5
"""Share of the draws that is trained on: chosen on 10,000 held-out training images of Fashion-MNIST
from 0.35, 0.5 and 1."""
MAX_EXTRA_DRAWS = 1000
"""Extra draws per image and epoch that a plan may ask for; more is a slip of the pen."""


@dataclass(frozen=True)
class ConfusionPlan:
    """Which classes to draw and augment more, and why.

    Attributes:
        class_names: one name a class.
        pairs: the confused pairs that the plan answers, most confused first.
        extra_draws: for each class the number of extra draws per image and epoch, ≥ 0.
        policy: name of the augmentation policy of the extra draws.
        reason: why these pairs, in a sentence.
        source: where the confusions were measured.
        confusions: the confusions behind the plan, if it came from any.
        keep: share of the draws that the training engine trains on: those on which the network
            did worst when it last saw the image; 1 for all. Easy draws are skipped, and the steps
            are spent on more epochs. In a loop of one's own `HardExampleBatchSampler` does that;
            an `AugmentationSampler` alone, which knows of no losses, draws everything.
        keep_after: length in epochs of the beginning in which all draws are trained on.
        strength: factor of the ranges of the policy's operations; < 1 is weaker.
        in_place: whether the draws replace as large a share, w / (1 + w) for w extra draws per
            image, of the regular draws of their class instead of coming on top.
        image_weights: one digit 0–9 for each training image, in order: how often it is drawn as
            an extra in proportion to the others of its class; empty for all alike.
        excluded: indices of training images that are never drawn as extras, since their label is
            probably wrong.
        start: share of the training, in passes over the images, after which the extra draws begin.
        ramp: share of the training over which they then grow, linearly, to their full number.
        stop: share of the training after which there are none any more.
        refresh_every: after how many passes over the training images the training engine chooses
            the classes anew, each time by images that it held back until then; 0 for never.
            Samplers, which know of no predictions, refuse such a plan.
    """

    class_names: tuple[str, ...]
    pairs: tuple[ConfusedPair, ...]
    extra_draws: tuple[float, ...]
    policy: str
    reason: str
    source: str = "given by the user"
    confusions: ConfusionReport | None = None
    keep: float = 1.0
    keep_after: float = 1.0
    strength: float = 1.0
    in_place: bool = False
    image_weights: str = ""
    excluded: tuple[int, ...] = ()
    start: float = 0.0
    ramp: float = 0.0
    stop: float = 1.0
    refresh_every: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra_draws", tuple(map(float, self.extra_draws)))
        if len(self.extra_draws) != len(self.class_names):
            raise DataError(
                f"a plan for {len(self.class_names)} classes needs as many extra_draws, not "
                f"{len(self.extra_draws)}"
            )
        if not all(0 <= draws <= MAX_EXTRA_DRAWS for draws in self.extra_draws):
            raise DataError(
                f"extra_draws must lie between 0 and {MAX_EXTRA_DRAWS}: {self.extra_draws}"
            )
        if not (0 < self.keep <= 1 and 0 <= self.keep_after < math.inf):
            raise DataError(
                f"keep must lie between 0 and 1 and keep_after must not be negative, but they are "
                f"{self.keep} and {self.keep_after}"
            )
        if not 0 <= self.strength <= 10:
            raise DataError(f"strength must lie between 0 and 10, not {self.strength}")
        if self.image_weights and not (
            self.image_weights.isascii() and self.image_weights.isdigit()
        ):
            raise DataError("image_weights must be one digit an image")
        if not (0 <= self.start <= self.stop <= 1 and 0 <= self.ramp <= 1):
            raise DataError(
                "start, ramp and stop must be shares of the training, start before stop, not "
                f"{self.start}, {self.ramp} and {self.stop}"
            )
        if self.excluded and min(self.excluded) < 0:
            raise DataError(f"there is no image {min(self.excluded)} to be excluded")
        if self.refresh_every < 0:
            raise DataError(f"refresh_every must not be negative, but is {self.refresh_every}")
        for pair in self.pairs:
            if not 0 <= pair.first < pair.second < len(self.class_names):
                raise DataError(f"classes {pair.first} and {pair.second} are no pair of this plan")

    @property
    def classes(self) -> tuple[int, ...]:
        """Indices of the targeted classes, in order."""
        return tuple(sorted({label for pair in self.pairs for label in (pair.first, pair.second)}))

    @property
    def changes_with_time(self) -> bool:
        """Whether the number of extra draws depends on how far the training is."""
        return (self.start, self.ramp, self.stop) != (0.0, 0.0, 1.0)

    def share_at(self, progress: float) -> float:
        """The share of the extra draws, 0–1, when so much of the training, 0–1, is done.

        >>> plan = ConfusionPlan.empty(["a", "b"])
        >>> plan = dataclasses.replace(plan, start=0.2, ramp=0.2, stop=0.8)
        >>> [round(plan.share_at(share), 2) for share in (0.1, 0.3, 0.5, 0.8)]
        [0.0, 0.5, 1.0, 0.0]
        """
        if progress < self.start or (progress >= self.stop and self.stop < 1):
            return 0.0
        return min(1.0, (progress - self.start) / self.ramp) if self.ramp else 1.0

    def share_until(self, progress: float) -> float:
        """`share_at` summed up from the beginning; 1 at the end if it is 1 all along.

        >>> plan = dataclasses.replace(ConfusionPlan.empty(["a", "b"]), start=0.2, ramp=0.2)
        >>> [round(plan.share_until(share), 2) for share in (0.1, 0.4, 0.5, 1.0)]
        [0.0, 0.1, 0.2, 0.7]
        """
        end = progress if self.stop == 1 else min(progress, self.stop)
        done = max(0.0, end - self.start)
        return done * done / (2 * self.ramp) if done < self.ramp else done - self.ramp / 2

    def progress_at(self, share: float) -> float:
        """How far the training is when `share_until` has grown to this value; its inverse.

        >>> plan = dataclasses.replace(ConfusionPlan.empty(["a", "b"]), start=0.2, ramp=0.2)
        >>> [round(plan.progress_at(share), 2) for share in (0.025, 0.1, 0.7)]
        [0.3, 0.4, 1.0]
        """
        full = self.ramp / 2
        return self.start + (math.sqrt(2 * self.ramp * share) if share < full else share + full)

    @classmethod
    def from_report(
        cls,
        report: ConfusionReport,
        pairs: str | Iterable[tuple[int | str, int | str]] | None = None,
        *,
        policy: str = "photometric",
        extra_per_image: float = EXTRA_PER_IMAGE,
        share_for_others: float = SHARE_FOR_OTHERS,
        max_pairs: int = MAX_PAIRS,
        keep: float = KEEP,
        source: str = "predictions given by the user",
    ) -> ConfusionPlan:
        """Turn confusions into a plan.

        By itself it takes the pairs whose share of all errors lies, with its 95 % interval, above
        what an equal spread of the errors over all pairs would give, at most ``max_pairs``; and
        none at all if chance could have spread the errors like this (at the 5 % level). Each
        class of a pair gets ``extra_per_image`` draws, scaled between 0.25 and 1 by its share of
        the confusions in these pairs; ``share_for_others`` of all those extras go to the other
        classes on top, but no more an image than the most confused class gets.

        Args:
            report: confusions on images that were neither trained on nor are the test set.
            pairs: None or ``"auto"``; or pairs of class names or indices, as tuples or as the
                text ``"0:6,Coat:Shirt"``.
            policy: name of the augmentation policy of the extra draws.
            extra_per_image: extra draws per image of the most confused class.
            share_for_others: share of the extras that goes to the other classes on top.
            max_pairs: how many pairs are taken at the most if none are given.
            keep: share of the draws that is trained on, if there is anything to target.
            source: where the confusions were measured, for the record.

        Raises:
            UsageError: an unknown class, a class paired with itself, a negative number.

        >>> report = ConfusionReport.from_predictions([0] * 9 + [1] * 9, [0] * 8 + [1] * 10)
        >>> ConfusionPlan.from_report(report, pairs=[(0, 1)]).extra_draws
        (0.5, 0.5)
        """
        if not (extra_per_image >= 0 and share_for_others >= 0 and max_pairs >= 0):
            raise UsageError("extra_per_image, share_for_others and max_pairs can't be negative")
        if pairs is None or (isinstance(pairs, str) and pairs.strip() == "auto"):
            chosen, reason = find_pairs(report, max_pairs)
        else:
            chosen = given_pairs(report, pairs)
            reason = "these pairs were set by hand"
        extra_draws = _extra_draws(report, chosen, extra_per_image, share_for_others)
        return cls(
            class_names=report.class_names,
            pairs=tuple(chosen),
            extra_draws=extra_draws,
            policy=policy,
            reason=reason,
            source=source,
            confusions=report,
            keep=keep if chosen else 1.0,
        )

    @classmethod
    def empty(
        cls, class_names: Sequence[str], reason: str = "no plan", keep: float = 1.0
    ) -> ConfusionPlan:
        """A plan without extra draws: a sampler with it is a plain shuffle."""
        return cls(tuple(class_names), (), (0.0,) * len(class_names), "none", reason, keep=keep)

    def spread_evenly(self, class_counts: Sequence[int]) -> ConfusionPlan:
        """The control: as many extra draws with the same policy, but spread over all classes.

        Args:
            class_counts: training images of each class.
        """
        images = sum(class_counts)
        total = sum(
            round(draws * count)
            for draws, count in zip(self.extra_draws, class_counts, strict=True)
        )
        even = (total / images if images else 0.0,) * len(self.class_names)
        if abs(sum(round(even[0] * count) for count in class_counts) - total) > total / 10:
            # of many small classes each would be rounded to no draw, or to one too many
            ends = [round(even[0] * end) for end in itertools.accumulate(class_counts)]
            even = tuple(
                (end - start) / max(count, 1)
                for start, end, count in zip([0, *ends[:-1]], ends, class_counts, strict=True)
            )
        return dataclasses.replace(
            self,
            extra_draws=even,
            reason="the same number of extra draws spread evenly over all classes",
            keep=1.0,
            image_weights="",
            excluded=(),
            refresh_every=0,
        )

    def to_json(self) -> str:
        """The plan as JSON text, from which `from_json` makes an equal plan."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values for JSON."""
        value = dataclasses.asdict(self)
        value["confusions"] = self.confusions.to_dict() if self.confusions else None
        return {"schema": SCHEMA, **json.loads(json.dumps(value))}

    @classmethod
    def from_json(cls, text: str) -> ConfusionPlan:
        """Read a plan that `to_json` wrote.

        Raises:
            DataError: the text is no plan, or of a later schema.
        """
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"not a plan as fmnist-aug writes it: {error!r}") from error

    @classmethod
    def from_dict(cls, value: Any) -> ConfusionPlan:
        """The inverse of `to_dict`.

        Raises:
            DataError: the value is no plan, or of a later schema.
        """
        try:
            return cls._from_dict(value)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"not a plan as fmnist-aug writes it: {error!r}") from error

    @classmethod
    def _from_dict(cls, value: dict[str, Any]) -> ConfusionPlan:
        if value["schema"] != SCHEMA:
            raise DataError(
                f"the plan has schema {value['schema']}, this version reads {SCHEMA}; "
                "use the fmnist-aug that wrote it"
            )
        class_names, confusions = value["class_names"], value["confusions"]
        if not all(isinstance(name, str) for name in [*class_names, value["policy"]]):
            raise DataError("class names and the policy of a plan must be text")
        return cls(
            class_names=tuple(class_names),
            pairs=tuple(read_pair(pair) for pair in value["pairs"]),
            extra_draws=tuple(float(draws) for draws in value["extra_draws"]),
            policy=str(value["policy"]),
            reason=str(value["reason"]),
            source=str(value["source"]),
            confusions=ConfusionReport.from_dict(confusions) if confusions else None,
            keep=float(value.get("keep", 1.0)),
            keep_after=float(value.get("keep_after", 1.0)),
            strength=float(value.get("strength", 1.0)),
            in_place=bool(value.get("in_place", False)),
            image_weights=str(value.get("image_weights", "")),
            excluded=tuple(int(index) for index in value.get("excluded", ())),
            start=float(value.get("start", 0.0)),
            ramp=float(value.get("ramp", 0.0)),
            stop=float(value.get("stop", 1.0)),
            refresh_every=int(value.get("refresh_every", 0)),
        )

    def __str__(self) -> str:
        """The plan as plain text, `to_table`."""
        return self.to_table()

    def to_table(self) -> str:
        """The plan as plain text for people."""
        lines = []
        if self.pairs:
            names = [
                f"{self.class_names[pair.first]} – {self.class_names[pair.second]}"
                for pair in self.pairs
            ]
            width = max(32, *map(len, names)) + 2
            lines.append(f"{'confused pair':<{width}}confused  of both classes (95 %)")
            for name, pair in zip(names, self.pairs, strict=True):
                low, high = pair.ci95
                lines.append(
                    f"{name:<{width}}{pair.count:>8}  {pair.rate:6.2%} ({low:.2%} … {high:.2%})"
                )
            lines.append("")
        width = max(21, *map(len, self.class_names)) + 2
        lines.append(f"{'class':<{width}}extra draws per image")
        lines += [
            f"{name:<{width}}{draws:.3f}{'  targeted' if label in self.classes else ''}"
            for label, (name, draws) in enumerate(
                zip(self.class_names, self.extra_draws, strict=True)
            )
        ]
        lines += [
            "",
            *self.describe_draws(),
            f"why: {self.reason}",
            f"from: {self.source}",
        ]
        return "\n".join(lines)

    def describe_draws(self) -> list[str]:
        """What the numbers of extra draws don't tell: policy, schedule, and so on, a line each."""
        lines = [
            f"policy of the extra draws: {self.policy}"
            + (f", strength × {self.strength:g}" if self.strength != 1 else "")
        ]
        if self.in_place:
            lines.append("in place of regular draws, not on top of them")
        if self.image_weights:
            lines.append("extra draws by image: the more it is confused, the more often")
        if self.excluded:
            lines.append(
                f"never drawn as extras: {len(self.excluded)} images whose label is probably wrong"
            )
        if self.changes_with_time:
            lines.append(
                f"extra draws from {self.start:.0%} of the training on, growing over "
                f"{self.ramp:.0%}, until {self.stop:.0%}"
            )
        if self.refresh_every:
            lines.append(
                f"classes chosen anew every {self.refresh_every} pass(es) over the training images"
            )
        lines.append(
            f"draws trained on: {self.keep:.0%}"
            + (", the easiest are skipped" if self.keep < 1 else "")
        )
        return lines


def _extra_draws(
    report: ConfusionReport, pairs: list[ConfusedPair], extra: float, share_for_others: float
) -> tuple[float, ...]:
    size = len(report.class_names)
    if not pairs:
        return (0.0,) * size
    confused = np.zeros(size)
    for pair in pairs:
        confused[[pair.first, pair.second]] += pair.count
    targeted = sorted({label for pair in pairs for label in (pair.first, pair.second)})
    largest = confused.max()
    draws = np.zeros(size)
    for label in targeted:
        share = confused[label] / largest if largest else 1.0
        draws[label] = extra * max(SMALLEST_SCALE, share)
    others = [label for label in range(size) if label not in targeted]
    images = int(report.support[others].sum()) if others else 0
    if images:
        even = share_for_others * float((draws * report.support).sum()) / images
        draws[others] = min(even, float(draws.max()))  # they may have very few images
    return tuple(float(value) for value in draws)
