"""Words and numbers for people: the same spelling on the terminal, in figures and on the page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

NOTHING = "–"
"""Stands where a value doesn't exist, such as the interval of a single run."""

ARTEFACT_WARNING = (
    "augment-only augments the planned classes and no others, so the network can tell them by the "
    "traces of the augmentation, and may take clean test images for other classes."
)
"""To be shown wherever the arm augment-only is."""


def shorten(text: str, length: int) -> str:
    """``text`` cut to ``length`` characters, with an ellipsis if anything was cut.

    >>> shorten("Ankle boot", 6)
    'Ankle…'
    """
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def number(value: float | None, digits: int = 0) -> str:
    """A number with a fixed count of decimals and a true minus sign; a dash for None or NaN.

    >>> number(-1.234, 2), number(None)
    ('−1.23', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:,.{digits}f}".replace("-", "−")


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction 0–1 in per cent, without the sign, which stands in the column's head.

    >>> percent(0.9412)
    '94.12'
    """
    return number(None if fraction is None else 100 * fraction, digits)


def points(fraction: float | None, digits: int = 2) -> str:
    """A difference of two fractions in percentage points, always with its sign.

    >>> points(0.0012), points(-0.5), points(0.0)
    ('+0.12', '−50.00', '0.00')
    """
    text = percent(fraction, digits)
    if text.startswith("−") and not text.strip("−0."):
        return text[1:]
    return text if text[0] in "−–" or not text.strip("0.") else f"+{text}"


def interval(bounds: Sequence[float] | None, *, signed: bool = False) -> str:
    """Two fractions as an interval in per cent, or in signed points.

    >>> interval([-0.001, 0.002], signed=True)
    '−0.10 … +0.20'
    """
    if bounds is None:
        return NOTHING
    spell = points if signed else percent
    return f"{spell(bounds[0])} … {spell(bounds[1])}"


def p_value(value: float | None) -> str:
    """A p-value with three decimals, never as zero.

    >>> p_value(0.0000001), p_value(0.25)
    ('< 0.001', '0.250')
    """
    if value is not None and value < 0.001:
        return "< 0.001"
    return number(value, 3)


def join_names(names: Sequence[str], most: int = 4) -> str:
    """Names as a list in a sentence, cut after ``most`` if that leaves out more than one.

    >>> join_names(["T-shirt/top", "Shirt"])
    'T-shirt/top and Shirt'
    >>> join_names(list("abcdef"), most=2)
    'a, b and 4 others'
    """
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} others"]
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + f" and {names[-1]}"


def unbroken(text: str) -> str:
    """``text`` that no line break parts a number from its sign, or an interval's two ends.

    >>> unbroken("95 % interval 1.0 … 2.0, p = 0.5").count(chr(0xA0))
    5
    """
    return re.sub(
        r"(?<=\d) (?=[%…])|(?<=…) (?=[\d+−])|(?<=\bp) (?=[=<])|(?<=[=<]) (?=\d)", "\xa0", text
    )


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "run"), plural(3, "run")
    ('1 run', '3 runs')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
