"""Folders in use, read-only, missing, linked, or full of other people's files."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fmnist_aug import load_dataset
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.data import write_idx_folder
from fmnist_aug.errors import DataError, RunFolderError
from fmnist_aug.files import owned_folder, write_text

OWN = """
import sys
from pathlib import Path
from fmnist_aug.errors import RunFolderError
from fmnist_aug.files import owned_folder
print("ready", flush=True)
sys.stdin.readline()
try:
    with owned_folder(Path(sys.argv[1])):
        print("mine", flush=True)
        sys.stdin.readline()
except RunFolderError as error:
    print(error, flush=True)
"""


@pytest.mark.fault(10)
def test_of_two_processes_at_once_exactly_one_owns_the_folder(tmp_path):
    command = [sys.executable, "-c", OWN, str(tmp_path / "out")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = sorted(process.stdout.readline() for process in both)
    assert "in use by another" in answers[0] or "in use by another" in answers[1]
    assert "mine\n" in answers
    for process in both:
        process.communicate("end\n", timeout=60)
    with owned_folder(tmp_path / "out"):
        pass


@pytest.mark.fault(10)
@pytest.mark.parametrize("name", ["results.json", "plan.json"])
def test_a_folder_with_files_that_look_like_ours_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    folder = ComparisonFolder(tmp_path)
    for resume in (True, False):
        with pytest.raises(RunFolderError, match="so it is not of a comparison"):
            folder.claim({"runs": 1}, resume)
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.fault(10)
def test_runs_of_an_unknown_configuration_are_not_taken_for_this_ones(tmp_path):
    folder = ComparisonFolder(tmp_path)
    folder.claim({"epochs": 2}, resume=True)
    figures = {"arm": "baseline", "seed": 0}
    folder.save_run(figures, b"weights", np.zeros((2, 2), np.float32), np.zeros(2, np.int64))
    folder.config.unlink()
    for resume in (True, False):
        with pytest.raises(RunFolderError, match=r"baseline-0\.json is there but no config\.json"):
            folder.claim({"epochs": 1}, resume)
    assert folder.load_run("baseline", 0) == figures, "nothing was removed"


@pytest.mark.fault(11)
def test_a_link_to_a_folder_is_followed_and_a_link_to_a_file_replaced(tmp_path):
    real, other = tmp_path / "real", tmp_path / "other.txt"
    real.mkdir()
    other.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(real)
    with owned_folder(link):
        (real / "file.txt").symlink_to(other)
        write_text(link / "file.txt", "ours")
    assert other.read_text() == "mine"
    assert (real / "file.txt").read_text() == "ours"
    assert not (real / "file.txt").is_symlink()


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "kind", ["file", "dangling link", "loop", "below a file", "too long", "NUL"]
)
def test_what_cannot_be_an_output_folder_is_refused(tmp_path, kind):
    path = tmp_path / "out"
    if kind in ("file", "below a file"):
        path.write_text("mine")
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    path = {"below a file": path / "x", "too long": path / ("x" * 300), "NUL": Path("a\0b")}.get(
        kind, path
    )
    with pytest.raises(RunFolderError, match="as the output folder"), owned_folder(path):
        pass
    assert kind != "file" or path.read_text() == "mine"


@pytest.mark.fault(11)
@pytest.mark.parametrize("kind", ["dangling link", "loop", "folder"])
def test_data_files_that_are_none(tmp_path, kind):
    write_idx_folder(load_dataset("mnist", "test").subset(np.arange(2)), tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nowhere")
    with pytest.raises(DataError, match="images and labels are both needed"):
        load_dataset(tmp_path, "test")


@pytest.fixture
def readable():
    """A folder that other users may enter, unlike pytest's."""
    if os.name == "nt":
        pytest.skip("needs POSIX permissions")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


AS_NOBODY = """
import os, sys
from pathlib import Path
from fmnist_aug.data import load_dataset
from fmnist_aug.data.folders import list_classes
from fmnist_aug.errors import DataError, RunFolderError
from fmnist_aug.files import owned_folder
if not os.geteuid():  # permissions don't bind root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


@pytest.mark.fault(11)
def test_read_only_data_works_and_a_read_only_output_fails_at_once(readable, python):
    data = readable / "data"
    write_idx_folder(load_dataset("mnist", "test").subset(np.arange(2)), data)
    for path in data.iterdir():
        path.chmod(0o444)
    data.chmod(0o555)
    code = (
        f"{AS_NOBODY}"
        "print(len(load_dataset(sys.argv[1], 'test')))\n"
        "for path in (sys.argv[1], sys.argv[1] + '/new'):\n"
        "    try:\n"
        "        with owned_folder(Path(path)): pass\n"
        "    except RunFolderError as error: print(error)"
    )
    try:
        lines = python(code, data).stdout.splitlines()
    finally:
        data.chmod(0o755)
    assert lines[0] == "2"
    assert all("Permission denied; choose a folder" in line for line in lines[1:])
    assert len(lines) == 3
    assert len(list(data.iterdir())) == 2, "nothing is written beside the data"


@pytest.mark.fault(11)
def test_class_folders_that_may_not_be_read_are_named(readable, python):
    folder = readable / "train"
    folder.mkdir()
    folder.chmod(0)
    code = (
        f"{AS_NOBODY}try: list_classes(Path(sys.argv[1]))\nexcept DataError as error: print(error)"
    )
    try:
        told = python(code, folder).stdout
    finally:
        folder.chmod(0o755)
    assert f"{folder}: cannot be read (Permission denied)" in told
