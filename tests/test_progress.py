import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fmnist_aug.cli import options
from fmnist_aug.cli.overall import OverallProgress
from fmnist_aug.cli.progress import ProgressDisplay
from fmnist_aug.comparison import ComparisonProgress
from fmnist_aug.data.named import NAMED_DATASETS
from fmnist_aug.training import TrainProgress

COLOUR = re.compile(r"\x1b\[[0-9;]*[39][0-7]m")


def training(step, steps=100):
    epoch, share = step / 50, step / steps
    return TrainProgress(step, steps, epoch, steps / 50, 0.5 + step / 1000, 1.0, 2000.0, 9.0, share)


def events():
    yield ComparisonProgress("probe", 0, 3, "probe", 0)
    yield ComparisonProgress("probe", 0, 3, "probe", 0, training=training(50))
    yield ComparisonProgress("plan", 1, 3)
    for number, arm in enumerate(("baseline", "targeted"), start=1):
        for step in (10, 60, 100):
            yield ComparisonProgress("train", number, 3, arm, 4, training=training(step))
        yield ComparisonProgress("finished", number + 1, 3, arm, 4, accuracy=0.9)
    yield ComparisonProgress("report", 3, 3)


def shown(**settings):
    stream = io.StringIO()
    console = Console(file=stream, width=120, highlight=False, **settings)
    with ProgressDisplay(console=console) as display:
        for event in events():
            display.comparison(event)
            display.bars.refresh()  # which a terminal sees ten times a second
    return stream.getvalue()


def test_the_estimate_is_for_all_that_is_left_and_not_from_the_probe():
    overall = OverallProgress(trainings=4)
    overall.train("probe", 0.5, 0.0, counts=False)
    assert overall.done == 0.5
    assert overall.seconds_left(10.0) is None
    overall.finish("probe", 1)
    overall.finish("baseline", 2)  # done by an earlier call, in no time
    assert overall.seconds_left(10.0) is None
    overall.train("uniform", 0.2, 20.0)  # goes on from its last epoch
    overall.train("uniform", 0.6, 60.0)
    assert overall.done == pytest.approx(2.6)
    assert overall.seconds_left(60.0) == pytest.approx(1.4 * 100)
    overall.finish("uniform", 3)
    assert overall.seconds_left(100.0) == pytest.approx(100)


def test_runs_side_by_side_share_the_time():
    overall = OverallProgress(trainings=5, finished=1)
    for now, share in ((0.0, 0.0), (50.0, 0.5)):
        overall.train("one", share, now)
        overall.train("two", share, now)
    assert overall.seconds_left(50.0) == pytest.approx(3 * 50)
    overall.train("two", 0.0, 60.0)  # its process was killed
    assert overall.seconds_left(60.0) == pytest.approx(60 / 0.5 * 3.5)


def test_without_a_terminal_there_are_plain_lines():
    text = shown()
    assert "\x1b" not in text
    assert "[2/3] baseline (seed 4): test accuracy 90.00%\n" in text
    assert text.endswith("writing the report\n")
    assert "━" not in text


def test_on_a_terminal_there_are_bars_for_the_whole_and_for_each_training():
    text = shown(force_terminal=True, color_system="standard")
    assert COLOUR.search(text)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "whole comparison" in plain
    assert "3/3] trainings" in plain
    assert re.search(r"baseline \(seed 4\).*epoch .*accuracy", plain)


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(force_terminal=True, color_system="standard")
    assert not COLOUR.search(text)
    assert "whole comparison" in text


def test_quiet_shows_nothing(capsys):
    with ProgressDisplay(quiet=True) as display:
        for event in events():
            display.comparison(event)
    assert capsys.readouterr() == ("", "")


def complete(*words, shell="bash"):
    command = shutil.which("fmnist-aug", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the fmnist-aug program is not beside this Python")
    done = subprocess.run(
        [command],
        env={
            **os.environ,
            "_FMNIST_AUG_COMPLETE": f"{shell}_complete" if words else f"{shell}_source",
            "COMP_WORDS": " ".join(["fmnist-aug", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, which click asks its version")
def test_the_program_prints_a_script_for_shell_completion():
    assert "complete -o nosort -F _fmnist_aug_completion fmnist-aug" in "\n".join(complete())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("comp",), ["plain,compare"]),
        (("compare", "--preset", "sm"), ["plain,smoke"]),
        (("train", "--dataset", "mn"), ["plain,mnist"]),
        (("train", "--dataset", "./pic"), ["dir,./pic"]),
        (("compare", "--conf"), ["plain,--config"]),
    ],
)
def test_words_are_completed(words, expected):
    assert complete(*words) == expected


def test_the_data_sets_that_are_completed_are_those_of_the_library():
    assert tuple(NAMED_DATASETS) == options.DATASETS
