"""The command line: parse, call, print. Heavy imports wait until a command runs."""

from fmnist_aug.cli.main import main

__all__ = ["main"]
