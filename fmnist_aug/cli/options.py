"""Options that several commands share, and how their values are shown."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fmnist_aug.cli.config_file import config_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Command = Callable[..., Any]

PRESETS = (
    "smoke",
    "fast",
    "light",
    "original",
    "gpu",
    "fast-gpu",
    "original-gpu",
    "original-cpu",
    "medium-cpu",
    "strong-cpu",
    "strong",
)
MODELS = (
    "baseline-cnn",
    "baseline-cnn-200k",
    "baseline-cnn-fc128",
    "baseline-cnn-fc64",
    "baseline-cnn-pool3",
    "baseline-cnn-pool4",
    "fast-cnn",
    "fast-cnn-48",
    "deep-cnn-48",
    "deep-cnn-64",
    "deep-cnn-128",
    "wide-resnet-16-8",
    "wide-resnet-28-10",
)
ARMS = (
    "baseline",
    "uniform",
    "sampler-only",
    "augment-only",
    "hard-only",
    "random-classes",
    "targeted",
)
POLICIES = (
    "none",
    "flip",
    "shift",
    "geometric",
    "photometric",
    "erasing",
    "erasing-mix",
    "buttons",
    "mix-within",
    "mix-away",
    "weaker",
)
EXPORT_FORMATS = ("onnx", "torch-export")
DATASETS = ("fashion-mnist", "mnist")
BACKENDS = ("local", "dask")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "measure", "fp32", "bf16", "fp16")


def data_options(function: Command) -> Command:
    """Which data, how to read it, and how it may be augmented."""
    return _all(
        reading_options,
        click.option(
            "--flip/--no-flip",
            default=None,
            help="Whether mirrored images keep their label.  [default: by data set]",
        ),
    )(function)


def reading_options(function: Command) -> Command:
    """Which data, and how to read it."""
    return _all(
        click.option(
            "--dataset",
            default="fashion-mnist",
            metavar="NAME|PATH",
            shell_complete=complete_dataset,
            help="fashion-mnist, mnist, an IDX folder, or an image folder: "
            "PATH/{train,test}/CLASS, or PATH/CLASS, of which a fifth becomes the test set.",
        ),
        click.option(
            "--data-dir",
            type=click.Path(),
            help="Folder in which named sets are looked for before the packaged ones.",
        ),
        click.option(
            "--image-size",
            type=int,
            help="Side in pixels to which the pictures of an image folder are brought.  "
            "[default: their own, at most 64]",
        ),
        click.option(
            "--stream/--no-stream",
            default=None,
            help="Whether the pictures of an image folder stay on the disk and are decoded when "
            "they are drawn.  [default: if they would take a third of the free memory]",
        ),
    )(function)


def training_options(function: Command) -> Command:
    """How to train, and a file that says so."""
    return _all(
        config_option,
        click.option(
            "--preset",
            type=click.Choice(PRESETS),
            help="Settings.  [default: gpu on GPUs that compute in bf16, fast on other GPUs "
            "and on CPUs that compute in bf16, else light; --precision counts]",
        ),
        click.option(
            "--model", type=click.Choice(MODELS), help="Network.  [default: the preset's]"
        ),
        click.option(
            "--epochs", type=float, help="Passes over the training data.  [default: the preset's]"
        ),
        click.option("--seed", type=int, default=0, help="Seed of the first run."),
        click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where to run."),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default="auto",
            help="auto takes what the processor computes natively: bf16, fp16 or fp32; measure "
            "times a few steps of each.",
        ),
    )(function)


def plan_options(function: Command) -> Command:
    """What to target."""
    return _all(
        click.option(
            "--pairs",
            default="auto",
            metavar="auto|A:B,C:D",
            help="Classes to target, by name or number: 0:6 or T-shirt/top:Shirt.",
        ),
        click.option(
            "--policy",
            type=click.Choice(POLICIES),
            help="Augmentation of the extra draws.  [default: what suits the data set]",
        ),
    )(function)


def tracker_options(function: Command) -> Command:
    """Where else figures go while a training runs."""
    return _all(
        click.option(
            "--tensorboard",
            type=click.Path(),
            metavar="DIR",
            help="Also write TensorBoard's event files here.  [extra: fmnist-aug[tensorboard]]",
        ),
        click.option(
            "--mlflow",
            metavar="URI",
            help="Also log to this MLflow store: a server, or sqlite:///FILE.  "
            "[extra: fmnist-aug[mlflow]]",
        ),
    )(function)


def output_options(function: Command) -> Command:
    """What is printed."""
    return _all(
        click.option("--json", "as_json", is_flag=True, help="Print results as JSON."),
        click.option("--quiet", "-q", is_flag=True, callback=_show_log, help="No progress."),
        debug_option,
    )(function)


def _show_log(context: click.Context, parameter: click.Parameter, quiet: bool) -> bool:
    if not quiet and not context.resilient_parsing:
        from fmnist_aug.cli.log import show_log

        show_log()
    return quiet


debug_option = click.option("--debug", is_flag=True, help="Show where an error came from.")


def complete_dataset(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Named data sets that begin so, or else folders."""
    from click.shell_completion import CompletionItem

    names = [CompletionItem(name) for name in DATASETS if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="dir")]


def parse_jobs(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """``auto`` to None, anything else to a whole number from 1 on."""
    if value == "auto":
        return None
    number: int = click.IntRange(1)(value, parameter, context)
    return number


def command_line() -> str:
    """The command as it was typed, without the path of the program."""
    return shlex.join(["fmnist-aug", *sys.argv[1:]])


def _all(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(function: Command) -> Command:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate
