"""Each input/output call of the writer fails in turn: old or new, never a part, no litter."""

import errno
import itertools
import os
import pathlib
import tempfile

import numpy as np
import pytest

from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.errors import RunFolderError
from fmnist_aug.files import remove_temporaries, write_text

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
def test_the_writer(tmp_path, code, for_good):
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


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "EIO"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_all_files_of_a_comparison(tmp_path, plan, classifier, logits, code, for_good):
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


def test_a_limit_on_the_size_of_files(tmp_path, python):
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from fmnist_aug.errors import RunFolderError; from fmnist_aug.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes(Path(sys.argv[1]), bytes(5000))\n"
        "except RunFolderError as error: print(error)"
    )
    assert "File too large" in python(code, path).stdout
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writes_left_is_swept_and_nothing_else(tmp_path):
    for name in (".results.json.ab12cd_9.partial", "mine.partial", ".hidden", "results.json"):
        (tmp_path / name).write_text("x")
    remove_temporaries(tmp_path)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [".hidden", "mine.partial", "results.json"]
