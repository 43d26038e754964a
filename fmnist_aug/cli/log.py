"""The library's log on stderr. Imported when a command runs: ``--help`` has no use for it."""

from __future__ import annotations

import contextlib
import logging

import click

from fmnist_aug.text import clean


class _ToStderr(logging.Handler):
    """Prints where stderr is at that moment: progress bars move it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        with contextlib.suppress(OSError):  # nobody may be reading any more
            click.echo(clean(record.getMessage()), err=True)


def show_log() -> None:
    """Print what the library logs, from now on."""
    log = logging.getLogger("fmnist_aug")
    if not log.handlers:
        log.addHandler(_ToStderr())
        log.setLevel(logging.INFO)
