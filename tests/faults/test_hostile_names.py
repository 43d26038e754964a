"""Class names and paths that would take over a terminal, a page or a spreadsheet."""

import csv
import io
import os
import sys

import numpy as np
import pytest
from PIL import Image

from fmnist_aug import ConfusionPlan, ConfusionReport, load_dataset
from fmnist_aug.comparison.arms import ARMS
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.comparison.results import run_figures, runs_csv
from fmnist_aug.data import write_idx_folder
from fmnist_aug.files import owned_folder, read_json, write_json
from fmnist_aug.text import clean, plain

HOSTILE = (
    "<script>alert(1)</script>",
    "$\\frac{x}$",
    "\x1b[31mred\x1b]0;title\x07",
    "a\u202egnp.exe",
    "two\nlines\ttab",
    "=cmd|' '!A0",
    "ünïcödé 漢字",
    b"latin \xe9".decode(errors="surrogateescape"),
)


C_AS_IT_IS = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
"""Python mends the C language by itself unless it is told not to."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    if sys.platform in ("win32", "darwin"):
        pytest.skip("this system allows no such file names")
    folder = tmp_path_factory.mktemp("name with space é")
    for split in ("train", "test"):
        for number, name in enumerate(HOSTILE):
            place = folder / split / name.replace("/", "∕")
            place.mkdir(parents=True)
            for copy in range(2):
                Image.new("L", (8, 8), 30 * number + copy).save(place / f"{copy}.png")
    return folder


@pytest.mark.fault(12, 14)
def test_any_folder_name_is_a_class(pictures, record_property):
    found = load_dataset(pictures, "train")
    assert set(found.class_names) == {name.replace("/", "∕") for name in HOSTILE}
    assert len(found.fingerprint()) == 64
    record_property("cases", len(found.class_names))


@pytest.mark.fault(12, 14)
def test_names_come_back_from_files_as_they_were(tmp_path, record_property):
    report = ConfusionReport(tuple((0,) * 8 for _ in HOSTILE), HOSTILE)
    plan = ConfusionPlan.from_report(report, [(0, 1)])
    folder = ComparisonFolder(tmp_path)
    folder.save_plan(plan, {"held_out_images": 1, "accuracy": 1.0, "seconds": 1.0})
    assert folder.load_plan()[0] == plan
    results = {"schema": 1, "class_names": list(HOSTILE)}
    folder.save_results(results)
    assert folder.load_results() == results
    record_property("cases", len(HOSTILE))


@pytest.mark.fault(14)
def test_what_is_shown_is_free_of_commands_and_tricks(record_property):
    for name in HOSTILE:
        for shown in (clean(name), plain(name)):
            assert not set(shown) & set("\x1b\x07\u202e\t")
            shown.encode()
    record_property("cases", len(HOSTILE))
    report = ConfusionReport(tuple((0,) * 8 for _ in HOSTILE), HOSTILE)
    shown = plain(ConfusionPlan.from_report(report, [(0, 1)]).to_table())
    assert shown.isprintable() or set(filter(lambda c: not c.isprintable(), shown)) == {"\n"}


@pytest.mark.fault(12, 14)
@pytest.mark.parametrize(
    "language",
    [
        {"LC_ALL": "C"},
        C_AS_IT_IS,
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "utf-8"},
    ],
    ids=str,
)
def test_names_are_printed_in_any_language(pictures, python, language, record_property):
    code = "import sys; sys.argv[0] = 'fmnist-aug'\nfrom fmnist_aug.cli import main; main()"
    environment = {**os.environ, **language}
    done = python(code, "data", "info", "--dataset", pictures, env=environment)
    assert not set("\x1b\x07") & set(done.stdout)
    assert "<script>" in done.stdout
    assert not done.stderr
    record_property("cases", len(HOSTILE))


PATHS = ("with space", "Ünï", "new\nline", "-dash", "x" * 200, os.fsdecode(b"\xff\xfe"))


@pytest.mark.fault(12)
def test_unusual_paths_of_data_and_output(tmp_path, record_property):
    for name in PATHS:
        place = tmp_path / name
        write_idx_folder(load_dataset("mnist", "test").subset(np.arange(2)), place)
        assert len(load_dataset(place, "test")) == 2
        with owned_folder(place):
            write_json(place / "config.json", {"dataset": str(place)})
            assert read_json(place / "config.json") == {"dataset": str(place)}
    record_property("cases", len(PATHS))


COMMANDS = """
import sys
from fmnist_aug.cli.main import main

for path in sys.argv[1:]:
    for command in (["data", "info", "--dataset", path], ["report", path], ["evaluate", path]):
        sys.argv[:] = ["fmnist-aug", *command]
        try:
            main()
        except SystemExit as ended:
            print("exit", ended.code, flush=True)
"""


@pytest.mark.fault(12)
@pytest.mark.parametrize("language", [C_AS_IT_IS, {"LC_ALL": "C.UTF-8"}], ids=str)
def test_commands_take_unusual_paths_or_say_why_not(tmp_path, python, language, record_property):
    for name in PATHS:
        write_idx_folder(load_dataset("mnist", "train").subset(np.arange(9)), tmp_path / name)
        write_idx_folder(load_dataset("mnist", "test").subset(np.arange(2)), tmp_path / name)
    too_long = ("x" * 300, "x/" * 3000)
    paths = [tmp_path / name for name in (*PATHS, *too_long)]
    done = python(COMMANDS, *paths, env={**os.environ, **language})
    codes = [line for line in done.stdout.splitlines() if line.startswith("exit")]
    assert codes == [
        *(f"exit {code}" for _ in PATHS for code in (0, 1, 1)),
        *(f"exit {code}" for _ in too_long for code in (1, 1, 1)),
    ]
    lines = done.stderr.splitlines()
    assert len(lines) == 2 * len(PATHS) + 3 * len(too_long)
    assert all(line.startswith("Error: ") and line.isprintable() for line in lines)
    assert "unexpected" not in done.stderr
    assert done.stderr.count("File name too long") == 3 * len(too_long)
    record_property("cases", len(codes))


@pytest.mark.fault(15)
def test_cells_of_the_table_of_runs_are_our_own_words_and_numbers(record_property):
    runs = [
        run_figures(
            arm,
            0,
            np.eye(8, dtype=np.float32),
            np.arange(8),
            HOSTILE,
            (0, 1),
            steps=3,
            images_seen=9,
            train_seconds=-1.5,
        )
        for arm in ARMS
    ]
    rows = list(csv.DictReader(io.StringIO(runs_csv(runs))))
    assert [row["arm"] for row in rows] == list(ARMS)
    for row in rows:
        assert row["arm"][0].isalpha(), "no spreadsheet takes it for a formula"
        assert float(row["train_seconds"]) == -1.5, "a negative number stays a number"
        numbers = [float(cell) for name, cell in row.items() if name != "arm"]
        assert len(numbers) == len(row) - 1, "no other text gets there"
    record_property("cases", sum(map(len, rows)))
