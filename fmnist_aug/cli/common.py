"""What several commands do alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fmnist_aug.text import clean

if TYPE_CHECKING:
    from fmnist_aug.comparison import ComparisonConfig

Event = TypeVar("Event")


def call_each(*callbacks: Callable[[Event], None]) -> Callable[[Event], None]:
    """One callback that calls several."""

    def call(event: Event) -> None:
        for callback in callbacks:
            callback(event)

    return call


def config_from(**options: Any) -> ComparisonConfig:
    """The configuration that options ask for."""
    from fmnist_aug.comparison import resolve_config

    return resolve_config(**{key: value for key, value in options.items() if key != "data_dir"})


def print_values(values: dict[str, Any], as_json: bool) -> None:
    """Print a command's results, as lines of text or as JSON."""
    if as_json:
        click.echo(json.dumps(values, indent=2, allow_nan=False))
        return
    for name, value in values.items():
        if isinstance(value, dict):
            click.echo(f"{name.replace('_', ' ')}:")
            for key, item in value.items():
                click.echo(f"  {clean(key)}: {_shown(item)}")
        else:
            click.echo(f"{name.replace('_', ' ')}: {clean(_shown(value))}")


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
