"""Checks of arguments that several parts share."""

from __future__ import annotations

from fmnist_aug.errors import UsageError


def whole_number(value: int, name: str, least: int = 0) -> int:
    """A whole number of any kind, numpy's too, as Python's.

    Args:
        value: the number.
        name: what it is, for the message.
        least: the smallest that is allowed.

    Raises:
        UsageError: it is none, or is smaller.

    >>> whole_number(3.0, "seed")
    3
    """
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):  # no number, not a number, infinity
        whole = least - 1
    if whole < least or whole != value:
        raise UsageError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return whole
