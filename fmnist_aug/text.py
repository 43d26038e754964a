"""Text from data, such as class names, made fit for a terminal."""

from __future__ import annotations

import re
import unicodedata

_TERMINAL_CODES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor moves
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # window titles and links
    r"|\x1b[@-_]"
)


def clean(text: object) -> str:
    r"""``text`` on one line, without control characters, terminal codes or hidden characters.

    Class names come from folder names, so they can hold anything; what is left can be printed
    on a terminal and encoded as UTF-8. Escaping for HTML is the template's work.

    >>> clean("\x1b[31mred\x1b[0m\nshirt")
    'red shirt'
    """
    visible = (
        " " if character.isspace() else character
        for character in _TERMINAL_CODES.sub("", str(text))
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
    return " ".join("".join(visible).split())


def plain(text: object) -> str:
    r"""``text`` as `clean` makes it, but lines and spaces stay as they are.

    >>> plain("\x1b[31mred\x1b[0m\n  shirt")
    'red\n  shirt'
    """
    return "".join(
        character
        for character in _TERMINAL_CODES.sub("", str(text))
        if character == "\n" or not unicodedata.category(character).startswith("C")
    )


def class_title(name: str, label: int) -> str:
    """A class's name, fit for printing; one whose name is blank is called by its number.

    >>> class_title("shirt", 6), class_title(" ", 6)
    ('shirt', 'class 6')
    """
    return clean(name) or f"class {label}"
