"""Which pairs of classes a plan answers: named by the user, found by confusions, or kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fmnist_aug.confusion import ConfusedPair, ConfusionReport, class_index
from fmnist_aug.errors import DataError, UsageError

MAX_PAIRS = 3
"""Pairs that a plan takes at the most if none are given."""
_PAIR_COUNTS = ("first", "second", "first_as_second", "second_as_first")


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """Split ``"0:6,Coat:Shirt"`` into pairs of names.

    Raises:
        UsageError: the text is not pairs.
    """
    pairs = []
    for part in text.split(","):
        names = [name.strip() for name in part.split(":")]
        if len(names) != 2 or not all(names):
            raise UsageError(
                f"{part.strip()!r} is not a pair of classes; write FIRST:SECOND, for instance 0:6 "
                "or T-shirt/top:Shirt, and commas between pairs"
            )
        pairs.append((names[0], names[1]))
    return pairs


def given_pairs(
    report: ConfusionReport, pairs: str | Iterable[tuple[int | str, int | str]]
) -> list[ConfusedPair]:
    """The pairs that the user names, by index or name, most confused first, each once.

    Raises:
        UsageError: an unknown class, or a class paired with itself.
    """
    chosen = []
    for names in parse_pairs(pairs) if isinstance(pairs, str) else pairs:
        first, second = (class_index(name, report.class_names) for name in names)
        if first == second:
            raise UsageError(f"class {report.class_names[first]!r} can't be paired with itself")
        pair = report.pair(first, second)
        if pair not in chosen:
            chosen.append(pair)
    return sorted(chosen, key=lambda pair: (-pair.count, pair.first, pair.second))


def find_pairs(report: ConfusionReport, max_pairs: int) -> tuple[list[ConfusedPair], str]:
    """The pairs that errors gather in, most confused first, and a sentence that says why.

    A pair is taken if its share of all errors is, with 95 % confidence, larger than an equal
    spread of the errors over all pairs would give.
    """
    classes = len(report.class_names)
    if not report.errors:
        return [], "no confusions were found, so there is nothing to target"
    even_share = 1 / max(classes * (classes - 1) / 2, 2)
    chosen = [pair for pair in report.most_confused() if pair.share_ci95[0] > even_share]
    if not chosen:
        return [], (
            f"none of the {report.errors} errors gather in a pair of classes more than chance "
            "would have it, so there is nothing to target"
        )
    kept = chosen[:max_pairs]
    share = sum(pair.share for pair in kept)
    return kept, (
        f"{len(chosen)} {'pair holds' if len(chosen) == 1 else 'pairs hold'} more of the "
        f"{report.errors:,} errors than an even spread ({100 * even_share:.1f} % each) would give; "
        f"the {f'{len(kept)} most confused hold' if len(kept) > 1 else 'most confused holds'} "
        f"{100 * share:.0f} %"
    )


def read_pair(value: dict[str, Any]) -> ConfusedPair:
    """The inverse of ``dataclasses.asdict`` of a pair.

    Raises:
        DataError: counts that are not whole, or intervals without two ends.
        LookupError, TypeError, ValueError: no pair at all.
    """
    counts = {name: value[name] for name in _PAIR_COUNTS}
    shares = {name: float(value[name]) for name in ("rate", "share")}
    intervals = {name: tuple(map(float, value[name])) for name in ("ci95", "share_ci95")}
    if not all(type(count) is int for count in counts.values()):
        raise DataError(f"a pair of a plan needs whole numbers: {counts}")
    if not all(len(interval) == 2 for interval in intervals.values()):
        raise DataError(f"an interval has two ends: {intervals}")
    return ConfusedPair(**counts, **shares, **intervals)  # type: ignore[arg-type]
