"""The group of commands, and how errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, NoReturn

import click

from fmnist_aug.cli import (
    commands,
    data_commands,
    leaderboard_commands,
    plan_commands,
    predict_commands,
    preview_commands,
    train_commands,
)
from fmnist_aug.errors import FmnistAugError

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class _Terminated(BaseException):
    """SIGTERM arrived."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="fmnist-aug", prog_name="fmnist-aug")
def cli() -> None:
    """Find the classes that a classifier confuses, augment exactly those, and measure honestly.

    Start with: fmnist-aug compare --preset smoke
    """


for command in (
    *commands.COMMANDS,
    *train_commands.COMMANDS,
    *plan_commands.COMMANDS,
    *predict_commands.COMMANDS,
    *preview_commands.COMMANDS,
    *data_commands.COMMANDS,
    *leaderboard_commands.COMMANDS,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 usage, 130 interrupted."""
    debug = "--debug" in sys.argv[1:]
    from_file: dict[str, Any] = {}  # options that a --config names
    _prepare_streams()
    stdout = sys.stdout  # click puts another in its place when its reader has gone
    signal.signal(signal.SIGTERM, _stop_once)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # ignored by nohup and shells' &
        signal.signal(signal.SIGINT, _stop_once)
    try:
        code = cli.main(standalone_mode=False, prog_name="fmnist-aug", obj=from_file)
        sys.stdout.flush()
    except click.ClickException as error:
        _with_hint(error).show()
        code = error.exit_code
    except FmnistAugError as error:
        if debug:
            raise
        _fail(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _fail(f"interrupted{_goes_on(from_file)}")
        code = EXIT_INTERRUPTED
    except _Terminated:
        _fail(f"terminated{_goes_on(from_file)}")
        code = EXIT_TERMINATED
    except BrokenPipeError:
        code = 0  # the reader of our output has gone, which is no failure of ours
    except SystemExit as error:  # click and rich make a 1 of such a reader
        gone = isinstance(error.__context__, BrokenPipeError) or sys.stdout is not stdout
        code = 0 if gone else error.code
    except MemoryError:
        _fail("not enough memory; use fewer or smaller images (--image-size)")
        code = 1
    except OSError as error:  # also of a path that is too long, or below a folder not to be entered
        if debug:
            raise
        _fail(f"cannot use {error.filename or 'a file'}: {error.strerror or error}")
        code = 1
    except Exception as error:
        if debug:
            raise
        _fail(f"unexpected {type(error).__name__}: {error}; --debug shows where")
        code = 1
    _release_stdout()
    sys.exit(code if isinstance(code, int) else 0)


def _goes_on(from_file: Mapping[str, Any]) -> str:
    """What is left of a command that was stopped: of most, nothing."""
    command, *options = sys.argv[1:] or [""]
    if command == "plan" and ("--search" in options or from_file.get("search")):
        return "; the same command again goes on from the last trial of the search"
    if command != "compare":
        return ""
    if "--no-resume" in options:
        return "; the same command without --no-resume goes on from here"
    if from_file.get("resume") is False and "--resume" not in options:
        return "; the same command with --resume goes on from here"
    on_a_cluster = {"dask", "--backend=dask"} & {*options, from_file.get("backend")}
    left = "last finished run" if on_a_cluster else "last epoch"
    return f"; the same command again goes on from the {left}"


def _with_hint(error: click.ClickException) -> click.ClickException:
    """A folder that is named without its option is the likeliest slip."""
    if (
        isinstance(error, click.UsageError)
        and "unexpected extra argument" in error.message
        and error.ctx is not None
        and any(option.name == "dataset" for option in error.ctx.command.params)
    ):
        hint = "a data set is named by --dataset, as in: --dataset PATH"
        return click.UsageError(f"{error.message}; {hint}", error.ctx)
    return error


def _fail(message: str) -> None:
    line = " ".join(message.split())
    with contextlib.suppress(OSError):  # nobody may be reading any more
        click.echo(f"Error: {''.join(c for c in line if c.isprintable())}", err=True)


def _prepare_streams() -> None:
    """Let no name be unprintable, and no stream be missing (``>&-`` closes them)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _release_stdout() -> None:
    """Keep Python's own flush at exit from complaining where nothing can be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop_once(number: int, frame: FrameType | None) -> None:
    """The first signal ends what is under way in good order, a second one ends it at once."""
    signal.signal(signal.SIGINT, _stop_now)
    signal.signal(signal.SIGTERM, _stop_now)
    raise KeyboardInterrupt if number == signal.SIGINT else _Terminated


def _stop_now(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)
