"""Which pairs of classes a plan answers: named by the user, found by confusions, or kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.confusion import ConfusedPair, ConfusionReport, class_index
from fmnist_aug.errors import DataError, UsageError

MAX_PAIRS = 3
"""Pairs that a plan takes at the most if none are given."""
_SIMULATED = 999
"""Spreads by chance: so many that 5 % of them and of the one that was found is a whole number."""
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
        if isinstance(names, str | int | np.integer) or len(names) != 2:
            raise UsageError(
                f"{names!r} is not a pair of classes; give a list of pairs, such as [(0, 6)], or "
                "text, such as '0:6,Coat:Shirt'"
            )
        first, second = (class_index(name, report.class_names) for name in names)
        if first == second:
            raise UsageError(f"class {report.class_names[first]!r} can't be paired with itself")
        pair = report.pair(first, second)
        if pair not in chosen:
            chosen.append(pair)
    return sorted(chosen, key=lambda pair: (-pair.count, pair.first, pair.second))


def check_pairs(
    pairs: str | Iterable[tuple[int | str, int | str]] | None, class_names: Sequence[str]
) -> None:
    """Find out before a long training that `given_pairs` won't take these; None is ``auto``.

    Raises:
        UsageError: an unknown class, or a class paired with itself.
    """
    if pairs is not None and not (isinstance(pairs, str) and pairs.strip() == "auto"):
        size = len(class_names)
        given_pairs(ConfusionReport(((0,) * size,) * size, tuple(class_names)), pairs)


def find_pairs(report: ConfusionReport, max_pairs: int) -> tuple[list[ConfusedPair], str]:
    """The pairs that errors gather in, most confused first, and a sentence that says why.

    A pair is taken if the 95 % interval of its share of all errors lies above what an equal spread
    over all pairs would give. Since of many pairs some pass that by luck, none is taken unless the
    errors as a whole are spread less equally than chance would (`spread_unevenly`).
    """
    classes = len(report.class_names)
    if not report.errors:
        return [], "no confusions were found, so there is nothing to target"
    even_share = 1 / max(classes * (classes - 1) / 2, 2)
    pairs = report.most_confused()
    chosen = [pair for pair in pairs if pair.share_ci95[0] > even_share]
    if not chosen or not spread_unevenly([pair.count for pair in pairs], classes):
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


def spread_unevenly(counts: Sequence[int], classes: int) -> bool:
    """Whether chance, at the 5 % level, would not spread errors over pairs of classes like this.

    The statistic is in how many ways two errors can be chosen of the same pair; chance lets each
    error fall into any pair alike. Then its mean and variance are known, and where Cantelli's
    inequality does not settle it, it is held against `_SIMULATED` such spreads, a Monte Carlo test
    (Barnard, JRSS B 25, 1963), which errs in 5 % for any number of errors.

    Args:
        counts: errors of each pair that has any.
        classes: how many there are; of two, there is but one pair, and nothing to tell.
    """
    places, errors = classes * (classes - 1) // 2, sum(counts)
    if places < 2:
        return True
    found = _coincidences(np.array(counts, np.float64))
    mean = errors * (errors - 1) / 2 / places
    above = found - mean
    # P ≤ variance / (variance + above²), which is at most 5 % from here on
    if above > 0 and above * above >= 19 * mean * (1 - 1 / places):
        return True
    if above <= 0:
        return False
    rng = np.random.default_rng(0)  # the same errors are the same plan
    at_least = sum(
        _coincidences(np.unique(rng.integers(places, size=errors), return_counts=True)[1]) >= found
        for _ in range(_SIMULATED)
    )
    return bool(1 + at_least <= 0.05 * (1 + _SIMULATED))


def _coincidences(counts: NDArray[Any]) -> float:
    return float((counts * (counts - 1.0)).sum() / 2)


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
