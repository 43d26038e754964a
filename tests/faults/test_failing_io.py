"""Each input/output call of the writer fails in turn: old or new, never a part, no litter."""

import dataclasses
import errno
import gzip
import io
import itertools
import os
import pathlib
import re
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image

from fmnist_aug import load_dataset
from fmnist_aug.classifier import Classifier, encode_tensors, read_tensors
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.comparison.results import runs_csv
from fmnist_aug.data import DatasetCard, ImageDataset, write_idx_folder
from fmnist_aug.data.folders import choose_format
from fmnist_aug.data.idx import read_idx
from fmnist_aug.errors import DataError, RunFolderError
from fmnist_aug.files import remove_temporaries, write_json, write_text
from fmnist_aug.hard_examples import HardExamples
from fmnist_aug.report import writing
from fmnist_aug.training.curve import LearningCurve
from fmnist_aug.training.state import TrainingState, save_state

pytestmark = pytest.mark.fault(7)

CALLS = (
    (tempfile, "mkstemp"),
    (os, "write"),
    (os, "fsync"),
    (os, "close"),
    (pathlib.Path, "chmod"),
    (pathlib.Path, "replace"),
    (pathlib.Path, "mkdir"),
    (pathlib.Path, "unlink"),
)


class Faults:
    """Counts the calls of all functions together and lets the N-th fail, once or from then on."""

    def __init__(self, patch, number, for_good, code):
        self.count = 0
        self.active = True
        self.number, self.for_good, self.code = number, for_good, code
        for owner, name in CALLS:
            patch.setattr(owner, name, self._wrap(getattr(owner, name), name))

    def _wrap(self, call, name):
        def wrapped(*arguments, **options):
            if self.active:
                self.count += 1
                due = self.count >= self.number if self.for_good else self.count == self.number
                if due:
                    if name == "close":
                        call(*arguments)  # as the kernel does: the descriptor is gone all the same
                    raise OSError(self.code, os.strerror(self.code))
            return None if name == "fsync" else call(*arguments, **options)

        return wrapped


def partials(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "EIO"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_the_writer(tmp_path, code, for_good, record_property):
    path = tmp_path / "below" / "file.txt"
    for number in itertools.count(1):
        write_text(path, "old")
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, number, for_good, code)
            try:
                write_text(path, "new")
                failed = False
            except RunFolderError as error:
                failed = True
                assert str(path) in str(error)  # noqa: PT017
                assert os.strerror(code) in str(error)  # noqa: PT017
            faults.active = False
        assert path.read_text() in (("old", "new") if failed else ("new",))
        if not for_good:
            assert not partials(tmp_path)
        remove_temporaries(path.parent)
        assert list(path.parent.iterdir()) == [path]
        if faults.count < number:
            break
    assert number > 6
    record_property("cases", number)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "EIO"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_a_comparisons_files_are_made_by_the_same_calls_again(
    tmp_path, plan, classifier, logits, code, for_good, record_property
):
    labels = np.array([0, 1, 2, 0, 1, 2])
    figures = {"arm": "targeted", "seed": 0, "test_accuracy": 0.5}
    results = {"schema": 1, "runs": [figures]}

    def work(path):
        folder = ComparisonFolder(path)
        folder.claim({"runs": 1}, resume=True)
        if folder.load_plan() is None:
            folder.save_plan(plan, {"held_out_images": 1, "accuracy": 1.0, "seconds": 1.0})
        if folder.load_run("targeted", 0) is None:
            folder.save_run(figures, classifier.to_bytes(), logits, labels)
        if not folder.results.exists():
            folder.save_results(results)

    for number in itertools.count(1):
        path = tmp_path / str(number)
        path.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, number, for_good, code)
            try:
                work(path)
            except RunFolderError:
                assert faults.count >= number
            faults.active = False
        work(path)  # the same command again
        folder = ComparisonFolder(path)
        assert folder.load_results() == results
        assert folder.load_run("targeted", 0) == figures
        assert (folder.load_logits("targeted", 0)[0] == logits).all()
        assert not partials(path)
        if faults.count < number:
            break
    assert number > 30
    record_property("cases", number)


FIGURES = {"arm": "targeted", "seed": 0, "test_accuracy": 0.5}
PROBE = {"held_out_images": 1, "seconds": 1.0}
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture(scope="module")
def report_writer(plan):
    """Writes a report's files, all drawn beforehand, with a page of these words."""
    test = ImageDataset(
        np.zeros((6, 8, 8, 1), np.uint8), LABELS, plan.class_names, DatasetCard("x", "X"), "test"
    )
    logits = {("baseline", 0): -np.eye(3, dtype=np.float32)[LABELS]}
    results = {"arms": ["baseline"], "runs": [{"arm": "baseline", "seed": 0}]}
    results |= {"class_names": plan.class_names}

    def write(path, words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writing, "arm_names", lambda _: ["baseline"])
            patch.setattr(writing, "focus_classes", lambda _: (0, 1))
            patch.setattr(writing, "draw_figures", lambda *_, **__: dict.fromkeys("ab", words))
            patch.setattr(writing, "contact_sheet", lambda *_: words)
            patch.setattr(writing, "render_page", lambda *_: words.decode())
            writing.write_report(path, results, test, logits)

    return write


@pytest.fixture(scope="module")
def writers(plan, classifier, logits, report_writer):
    """For each kind of file that is written: a function of the folder and of the old or the new."""
    checkpoint = encode_tensors({"weight": torch.ones(2)}, "classifier", {})
    run = {"focus": dict.fromkeys(("missed", "claimed", "swapped"), 1), "train_seconds": 1.0}
    run |= {"errors": 1, "steps": 1, "images_seen": 1, **FIGURES}
    images = load_dataset("mnist", "test")

    def state(path, version):
        model = torch.nn.Linear(3, 2, bias=False)
        torch.nn.init.constant_(model.weight, version)
        cpu = torch.device("cpu")
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        kept = TrainingState(model, [], HardExamples(4, cpu), LearningCurve(9, 2, 4, cpu), scaler)
        kept.hard.losses.zero_()
        save_state(path / "state.safetensors", kept, {"version": version})

    def save_run(path, version):
        folder = ComparisonFolder(path)
        folder.save_run({**FIGURES, "v": version}, checkpoint, logits + version, LABELS)

    def save_results(path, version):
        ComparisonFolder(path).save_results({"schema": version})

    return {
        "plan": lambda path, v: ComparisonFolder(path).save_plan(plan, {**PROBE, "accuracy": v}),
        "configuration": lambda path, v: write_json(path / "config.json", {"runs": v}),
        "state": state,
        "run": save_run,
        "results": save_results,
        "table": lambda path, v: write_text(path / "runs.csv", runs_csv([run] * v)),
        "report": lambda path, v: report_writer(path, b"old" if v == 1 else b"new words"),
        "data": lambda path, v: write_idx_folder(images.subset(np.arange(v)), path),
        "checkpoint": lambda path, v: classifier_named(classifier, v).save(path / "x.safetensors"),
    }


def classifier_named(classifier, version):
    header = dataclasses.replace(classifier.header, class_names=(f"v{version}", "dog", "eel"))
    return Classifier(classifier.model, header)


def content(path):
    if path.suffix != ".safetensors":
        return path.read_bytes()
    tensors, kind, header = read_tensors(path)  # two files of the same don't have the same bytes
    return {name: value.numpy().tobytes() for name, value in tensors.items()}, kind, header


def contents(folder):
    return {
        path.relative_to(folder): content(path)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".partial")
    }


KINDS = (
    *("plan", "configuration", "state", "run", "results"),
    *("table", "report", "data", "checkpoint"),
)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "EIO"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_file_is_the_old_one_or_the_new(
    tmp_path, writers, kind, code, for_good, record_property
):
    write = writers[kind]
    versions = []
    for version in (1, 2):
        write(tmp_path / f"{version}", version)
        versions.append(contents(tmp_path / f"{version}"))
    assert versions[0].keys() == versions[1].keys()
    folder = tmp_path / "out"
    for number in itertools.count(1):
        write(folder, 1)
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, number, for_good, code)
            try:
                write(folder, 2)
                failed = False
            except RunFolderError as error:
                failed = True
                assert str(folder) in str(error)  # noqa: PT017
            faults.active = False
        found = contents(folder)
        assert found.keys() == versions[0].keys()
        for path, value in found.items():
            assert value in [version[path] for version in versions[not failed :]], path
        if not for_good:
            assert not partials(folder)
        for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            remove_temporaries(inner)
        assert not partials(folder)
        if faults.count < number:
            break
    assert number > 6 * len(versions[0])
    record_property("cases", number)


def test_a_limit_on_the_size_of_files(tmp_path, python, record_property):
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from fmnist_aug.errors import RunFolderError; from fmnist_aug.files import write_bytes\n"
        "for limit in range(0, 5000, 500):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, 5000))\n"
        "    try: write_bytes(Path(sys.argv[1]), bytes(5000))\n"
        "    except RunFolderError as error: print(error)"
    )
    lines = python(code, path).stdout.splitlines()
    assert len(lines) == 10
    assert all("File too large" in line for line in lines)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    record_property("cases", len(lines))


LIMITED = """
import resource, sys
from fmnist_aug.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), -1))
main()
"""


def test_a_training_that_meets_the_limit_ends_with_one_line_and_keeps_the_old_file(
    small, tmp_path, python
):
    path = tmp_path / "model.safetensors"
    path.write_text("old")
    command = ["train", "--dataset", small, "--out", path, "--preset", "smoke", "--quiet"]
    command += ["--epochs", "0.1", "--device", "cpu"]
    done = python(LIMITED, 50_000, *command, code_expected=1)
    assert f"Error: cannot write {path}: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


class FailingFile(io.FileIO):
    """A file of which nothing can be read."""

    def readinto(self, _):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def readall(self):
        return self.readinto(None)


def test_files_that_cannot_be_read_are_named(tmp_path, writers, monkeypatch, record_property):
    folder = ComparisonFolder(tmp_path)
    for kind in ("plan", "configuration", "run", "results", "data"):
        writers[kind](tmp_path, 2)
    images, labels = (tmp_path / f"t10k-{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(labels.read_bytes()))
    picture = tmp_path / "x.png"
    Image.new("L", (8, 8)).save(picture)
    readers = {
        folder.plan: folder.load_plan,
        folder.config: lambda: folder.claim({"runs": 2}, resume=True),
        folder.record("targeted", 0): lambda: folder.load_run("targeted", 0),
        folder.predictions("targeted", 0): lambda: folder.load_logits("targeted", 0),
        folder.results: folder.load_results,
        folder.checksum: folder.load_results,
        images: lambda: read_idx(images, 3),
        packed: lambda: read_idx(packed, 1),
        picture: lambda: choose_format([picture]),
    }
    opened = io.open
    for path, read in readers.items():
        read()

        def open_badly(name, mode="r", *more, bad=path, **options):
            if str(name) != str(bad):
                return opened(name, mode, *more, **options)
            stream = io.BufferedReader(FailingFile(name))
            return stream if "b" in mode else io.TextIOWrapper(stream, encoding="utf-8")

        with monkeypatch.context() as patch:
            patch.setattr(io, "open", open_badly)
            patch.setattr("builtins.open", open_badly)
            with pytest.raises((RunFolderError, DataError), match=re.escape(str(path))):
                read()
    record_property("cases", len(readers))


def test_what_killed_writes_left_is_swept_and_nothing_else(tmp_path):
    for name in (".results.json.ab12cd_9.partial", "mine.partial", ".hidden", "results.json"):
        (tmp_path / name).write_text("x")
    remove_temporaries(tmp_path)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [".hidden", "mine.partial", "results.json"]
