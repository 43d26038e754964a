import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import fmnist_aug
from fmnist_aug.augment import POLICIES
from fmnist_aug.classifier import read_tensors
from fmnist_aug.cli import options
from fmnist_aug.cli.main import _goes_on
from fmnist_aug.comparison import ARMS
from fmnist_aug.comparison.cluster import BACKENDS
from fmnist_aug.models import MODELS
from fmnist_aug.training import PRESETS
from fmnist_aug.training.hardware import DEVICES, PRECISIONS


def run(*arguments, code=0, **more):
    done = subprocess.run(
        [sys.executable, "-m", "fmnist_aug", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"},
        **more,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Colour pictures of unlike sizes in three classes: red and orange ones are hard to tell."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    colours = {"red": (200, 40, 40), "orange": (210, 90, 40), "blue": (40, 60, 200)}
    for split, count in (("train", 24), ("test", 8)):
        for name, colour in colours.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                size = (*rng.integers(20, 50, 2), 3)
                pixels = np.clip(rng.normal(colour, 40, size), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.jpg")
    return folder


QUICK = ("--preset", "smoke", "--epochs", "0.3", "--device", "cpu", "--quiet")


def test_choices_on_the_command_line_are_those_of_the_library():
    # they are written down again there, since importing them would import torch
    assert tuple(PRESETS) == options.PRESETS
    assert tuple(MODELS) == options.MODELS
    assert tuple(ARMS) == options.ARMS
    assert tuple(POLICIES) == options.POLICIES
    assert BACKENDS == options.BACKENDS
    assert (DEVICES, PRECISIONS) == (options.DEVICES, options.PRECISIONS)


def imported(code, *arguments):
    """What a fresh interpreter has imported after running ``code``, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n', *sys.modules)", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    printed, _, modules = done.stdout.rpartition("\n ")
    return {name for name in modules.split() if not name.startswith("fmnist_aug")}, printed


RUN_MAIN = """
import sys; sys.argv[0] = 'fmnist-aug'
from fmnist_aug.cli import main
try: main()
except SystemExit as done: assert not done.code
"""
SMALLEST_HELP = """
import click
click.Group("x", [click.Command("y", params=[click.Option(["--z"], show_default=True)])]).main(
    ["--help"], standalone_mode=False
)
"""
LIGHT = {
    "__future__",
    "pathlib",
    "fnmatch",
    "shlex",
    "json",
    "urllib",
    "ipaddress",
    "ntpath",
    "math",
    "signal",
    "unicodedata",
    "difflib",  # click's own, for -h
    "heapq",
}


@pytest.mark.parametrize(
    "arguments", [("--help",), ("compare", "--help"), ("data", "--help"), ("train", "-h")]
)
def test_help_imports_click_and_hardly_anything_else(arguments):
    modules, printed = imported(RUN_MAIN, *arguments)
    assert "Usage: fmnist-aug" in printed
    more = {name.split(".")[0].lstrip("_") for name in modules - imported(SMALLEST_HELP)[0]}
    assert more <= {name.lstrip("_") for name in LIGHT}


def test_version_imports_nothing_heavy():
    modules, printed = imported(RUN_MAIN, "--version")
    assert fmnist_aug.__version__ in printed
    heavy = {"torch", "numpy", "scipy", "sklearn", "albumentations", "matplotlib", "rich"}
    assert not heavy & modules


def test_importing_the_library_is_light_and_names_are_all_there():
    assert not {"torch", "numpy", "importlib.metadata", "email"} & imported("import fmnist_aug")[0]
    code = "import fmnist_aug\nfor name in fmnist_aug.__all__: getattr(fmnist_aug, name)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_compare_on_colour_pictures_of_unlike_sizes(pictures, tmp_path):
    out = tmp_path / "out"
    done = run("compare", "--dataset", pictures, "--out", out, "--runs", 2, *QUICK)
    assert "targeted" in done.stdout
    assert str(out / "report.html") in done.stdout.replace("\n", "")
    results = json.loads((out / "results.json").read_text())
    assert results["class_names"] == ["blue", "orange", "red"]
    assert results["environment"]["command"].startswith("fmnist-aug compare --dataset")
    again = run("compare", "--dataset", pictures, "--out", out, "--runs", 2, *QUICK, "--json")
    assert json.loads(again.stdout) == results


def test_train_evaluate_and_confusions_print_json(small, tmp_path):
    path = tmp_path / "model.safetensors"
    trained = json.loads(run("train", "--dataset", small, "--out", path, "--json", *QUICK).stdout)
    assert trained["checkpoint"] == str(path)
    tested = json.loads(run("evaluate", path, "--dataset", small, "--json").stdout)
    assert tested["accuracy"] == trained["test_accuracy"]
    on_train = json.loads(
        run("evaluate", path, "--dataset", small, "--split", "train", "--json").stdout
    )
    assert on_train["images"] == 600
    found = json.loads(run("confusions", "--dataset", small, "--json", *QUICK).stdout)
    assert np.array(found["counts"]).sum() == 60


def test_confusions_are_measured_after_as_many_epochs_as_asked_for(small):
    # the preset's probe takes one, and stays so in plans
    line = ["--dataset", small, "--preset", "fast", "--epochs", "1.5"]
    assert "after 1.5 epochs" in json.loads(run("confusions", *line, "--json").stdout)["source"]
    assert "after 1 epoch on" in json.loads(run("plan", *line, "--json").stdout)["source"]


def test_plan_is_shown_written_and_shown_again(small, tmp_path):
    path = tmp_path / "plan.json"
    shown = run("plan", "--dataset", small, "--pairs", "0:6", "--out", path, *QUICK).stdout
    assert "0 – 6" in shown
    assert run("plan", "--show", path).stdout == shown


def test_data_commands(tmp_path):
    told = json.loads(run("data", "info", "--dataset", "mnist", "--json").stdout)
    assert told["splits"]["train"]["images"] == 60_000
    assert "official bytes" in run("data", "verify").stdout
    run("data", "export", tmp_path, "--dataset", "mnist")
    assert "official bytes of MNIST" in run("data", "verify", "--dataset", tmp_path).stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    ]
    assert "MNIST" in run("data", "info", "--dataset", tmp_path).stdout.splitlines()[0]
    told = run("data", "export", ".", "--dataset", tmp_path, code=2, cwd=tmp_path).stderr
    assert "would hide what is in ." in told
    run("data", "export", "mnist", "--dataset", "mnist", cwd=tmp_path)
    assert len(list((tmp_path / "mnist").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("compare", "--runs", "0"), 2, "runs must be"),
        (("compare", "--runs", "x"), 2, "--runs"),
        (("compare", "--pairs", "0:Hat"), 2, "unknown class 'Hat'"),
        (("compare", "--pairs", "0-6"), 2, "not a pair"),
        (("compare", "--dataset", "fashion"), 2, "fashion-mnist"),
        (("compare", "--epochs", "-1"), 2, "epochs"),
        (("train", "--epochs", "inf"), 2, "epochs"),
        (("compare", "--epochs", "1e300"), 2, "at most 100000, not 1e+300"),
        (("train", "--seed", "99999999999999999999"), 2, "seeds must lie in 0"),
        (("compare", "--seed", "4294967294"), 2, "seeds must lie in 0"),
        (("compare", "--device", "cuda"), 2, "cuda"),
        (("compare", "--data-dir", "nowhere"), 2, "nowhere"),
        (
            (
                "compare",
                "--nonsense",
            ),
            2,
            "--nonsense",
        ),
        (("nonsense",), 2, "nonsense"),
        (("evaluate", "nowhere.safetensors"), 1, "nowhere.safetensors"),
        (("evaluate", "nowhere.safetensors", "--flip"), 2, "--flip"),  # it would change nothing
        (("compare", "pictures"), 2, "named by --dataset, as in: --dataset PATH"),
        (("report", "nowhere"), 1, "results.json"),
        (("plan", "--show", "nowhere.json"), 1, "nowhere.json"),
        (("plan", "--show", "nowhere.json", "--refresh", "1"), 2, "as it is"),
        (("plan", "--trials", "3"), 2, "are for --search"),
        (("plan", "--budget", "3"), 2, "are for --search"),
        (("train", "--out", "nowhere/model.safetensors"), 1, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_arguments_give_one_line_and_an_exit_code(arguments, code, said, tmp_path):
    if "cuda" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA GPU")
    done = run(*arguments, code=code, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.fault(11)
def test_bad_folders_give_one_line_and_exit_code_one(tmp_path, small):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is no data set" in run("compare", "--dataset", empty, code=1, cwd=tmp_path).stderr
    lonely = tmp_path / "lonely"
    (lonely / "train" / "one").mkdir(parents=True)
    (lonely / "test" / "one").mkdir(parents=True)
    for path in (lonely / "train" / "one" / "a.png", lonely / "test" / "one" / "a.png"):
        Image.new("L", (28, 28)).save(path)
    for name in ("two",):
        for split in ("train", "test"):
            (lonely / split / name).mkdir()
            for number in range(9):
                Image.new("L", (28, 28), 200).save(lonely / split / name / f"{number}.png")
    told = run("compare", "--dataset", lonely, "--out", tmp_path / "x", *QUICK, code=1).stderr
    assert "too few to split" in told
    assert not (tmp_path / "x").exists()
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    told = run("compare", "--dataset", small, "--out", blocked / "out", *QUICK, code=1).stderr
    assert str(blocked) in told
    assert blocked.read_text() == "mine"


@pytest.mark.fault(9)
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_cleanly_and_the_run_can_go_on(small, tmp_path, number, code):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fmnist_aug", "compare", "--dataset", str(small)]
    command += ["--out", str(out), "--preset", "smoke", "--epochs", "50", "--device", "cpu"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not list(out.glob("state/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(number)
    _, told = started.communicate(timeout=300)
    assert started.returncode == code
    assert "goes on" in told.splitlines()[-1]
    assert "Traceback" not in told
    assert not (out / "results.json").exists()
    assert not list(out.rglob("*.partial"))
    for path in out.glob("state/*.safetensors"):
        assert read_tensors(path)[2]["step"] > 0, "the state that was kept is whole"


@pytest.mark.parametrize("arguments", [("leaderboard",), ("leaderboard", "--json")])
def test_a_reader_that_has_gone_is_no_failure(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "fmnist_aug", *arguments],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_comparison_goes_on_when_nobody_watches_its_progress(small, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = ["compare", "--dataset", small, *QUICK, "--out", tmp_path / "out"]
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "fmnist_aug", *map(str, command)], stderr=gone, timeout=300
        )
    assert done.returncode == 0
    assert (tmp_path / "out" / "results.json").exists()


def test_debug_shows_where_an_error_came_from(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fmnist_aug", "evaluate", "nowhere.safetensors", "--debug"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert "Traceback" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("compare", "the same command again goes on from the last epoch"),
        ("compare --backend dask", "goes on from the last finished run"),
        ("compare --no-resume", "the same command without --no-resume goes on"),
        ("plan --search", "goes on from the last trial"),
        ("plan", ""),
        ("train", ""),
        ("report", ""),
    ],
)
def test_only_what_goes_on_again_is_said_to(command, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fmnist-aug", *command.split(), "--quiet"])
    assert said in _goes_on({})
    assert bool(_goes_on({})) == bool(said)


@pytest.mark.parametrize(
    ("command", "file", "said"),
    [
        ("compare", {"resume": False}, "the same command with --resume goes on"),
        ("compare --resume", {"resume": False}, "goes on from the last epoch"),
        ("compare", {"backend": "dask"}, "goes on from the last finished run"),
        ("compare", {"runs": 2}, "goes on from the last epoch"),
        ("plan", {"search": True}, "goes on from the last trial"),
    ],
)
def test_options_from_a_file_count_for_what_goes_on(command, file, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fmnist-aug", *command.split(), "--config", "file.toml"])
    assert said in _goes_on(file)
