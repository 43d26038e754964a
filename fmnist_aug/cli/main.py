"""The group of commands, and how errors become one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from fmnist_aug.cli import commands, data_commands, predict_commands, preview_commands
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
    *predict_commands.COMMANDS,
    *preview_commands.COMMANDS,
    *data_commands.COMMANDS,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 usage, 130 interrupted."""
    debug = "--debug" in sys.argv[1:]
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(standalone_mode=False, prog_name="fmnist-aug")
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except FmnistAugError as error:
        if debug:
            raise
        _fail(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; the same command again goes on from the last epoch")
        code = EXIT_INTERRUPTED
    except _Terminated:
        _fail("terminated; the same command again goes on from the last epoch")
        code = EXIT_TERMINATED
    except BrokenPipeError:
        # the reader of our output has gone, which is no failure of ours; keep Python's own
        # flush at exit from complaining
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except MemoryError:
        _fail("not enough memory; use fewer or smaller images (--image-size)")
        code = 1
    except Exception as error:
        if debug:
            raise
        _fail(f"unexpected {type(error).__name__}: {error}; --debug shows where")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    line = " ".join(message.split())
    click.echo(f"Error: {''.join(c for c in line if c.isprintable())}", err=True)


def _terminate(number: int, frame: FrameType | None) -> Any:
    raise _Terminated
