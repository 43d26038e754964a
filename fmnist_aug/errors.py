"""Everything that fmnist-aug raises on purpose: one base error and its few children.

A message says what is wrong, where, what was expected and what to do. The command line prints it
as one line and ends with ``exit_code``.
"""


class FmnistAugError(Exception):
    """The base of all errors that this package raises on purpose."""

    exit_code = 1


class UsageError(FmnistAugError, ValueError):
    """An argument that can't be used as it was given: an unknown class, a negative count."""

    exit_code = 2


class DataError(FmnistAugError, ValueError):
    """A data set that is missing, cut, corrupt, or unfit for what was asked."""


class CheckpointError(FmnistAugError, ValueError):
    """A checkpoint that can't be read, or doesn't fit the model that it names."""


class RunFolderError(FmnistAugError, OSError):
    """A run folder that can't be written, is in use, or belongs to another configuration."""


class TrainingError(FmnistAugError, RuntimeError):
    """A training that can't go on, such as one whose loss is no longer finite."""
