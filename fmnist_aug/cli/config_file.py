"""``--config FILE.toml``: defaults for a command's options; the command line wins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

_NOT_IN_A_FILE = {"config", "help", "debug"}


def config_option(function: Command) -> Command:
    """Let a command take the defaults of its options from a TOML file.

    Keys are the options' long names without the dashes (``epochs = 3``, ``image-size = 32`` or
    ``image_size = 32``); a repeatable option takes a list. Options are read in their order on the
    command line, this one before all others.
    """
    return click.option(
        "--config",
        type=click.Path(),
        is_eager=True,
        expose_value=False,
        callback=_read_defaults,
        metavar="FILE.toml",
        help="Options from a TOML file (epochs = 3); those on the command line win.",
    )(function)


def _read_defaults(context: click.Context, option: click.Parameter, path: str | None) -> None:
    if path is None:
        return
    values = _read(Path(path))
    options = _options(context.command)
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("_", "-")
        if name not in options:
            raise click.UsageError(_unknown(path, key, list(options)), context)
        if str(options[name].name) in defaults:
            raise click.UsageError(f"{path}: {name} is given twice", context)
        defaults[str(options[name].name)] = _checked(path, key, value, options[name], context)
    context.default_map = {**(context.default_map or {}), **defaults}
    if context.obj is not None:
        context.obj.update(defaults)


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows begins files so
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # of TOML or of UTF-8
        raise click.UsageError(f"{path} is not valid TOML: {error}") from error


def _options(command: click.Command) -> dict[str, click.Option]:
    """A command's options by their long names."""
    return {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--") and name.removeprefix("--") not in _NOT_IN_A_FILE
    }


def _checked(path: str, key: str, value: Any, option: click.Option, context: click.Context) -> Any:
    """The value as click would make it of the command line's text, or one clear line."""
    kinds = (bool,) if option.is_flag else (str, int, float)
    items = value if option.multiple and isinstance(value, list) else [value]
    # True is an int to Python, but no number to the one who wrote it
    if not all(
        isinstance(item, kinds) and isinstance(item, bool) == option.is_flag for item in items
    ):
        expected = "true or false" if option.is_flag else "text or a number"
        raise click.UsageError(
            f"{path}: {key} = {value!r} cannot be used; expected {expected}"
            + (" or a list of them" if option.multiple else ""),
            context,
        )
    texts = items if option.is_flag else [str(item) for item in items]
    try:
        return option.type_cast_value(context, texts if option.multiple else texts[0])
    except click.BadParameter as error:
        raise click.UsageError(f"{path}: {key}: {error.message}", context) from error


def _unknown(path: str, key: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key.replace("_", "-"), known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return f"{path}: unknown key {key!r}; {hint}"
