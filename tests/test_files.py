import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmnist_aug.errors import RunFolderError
from fmnist_aug.files import check_writable, owned_folder, read_json, write_json, write_text

CALLS = [
    "tempfile.mkstemp",
    "os.write",
    "os.fsync",
    "os.close",
    "pathlib.Path.chmod",
    "pathlib.Path.replace",
]


@pytest.mark.fault(7)
@pytest.mark.parametrize("call", CALLS)
def test_a_write_that_fails_leaves_the_old_file_whole_and_no_other(tmp_path, monkeypatch, call):
    path = tmp_path / "results.json"
    write_text(path, "old")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(call, fail)
    with pytest.raises(RunFolderError, match=r"results\.json: No space left"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.fault(6)
def test_json_has_no_nan_and_bad_json_is_named(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    path.write_text("{")
    with pytest.raises(RunFolderError, match=r"a\.json is not valid JSON"):
        read_json(path)


@pytest.mark.fault(10)
def test_a_folder_has_one_owner_and_a_dead_one_does_not_count(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from fmnist_aug.files import owned_folder\n"
        "with owned_folder(Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"mine\n"
    with pytest.raises(RunFolderError, match="in use"), owned_folder(tmp_path):
        pass
    other.kill()
    other.communicate()
    with owned_folder(tmp_path):
        pass


@pytest.mark.fault(11)
def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(RunFolderError, match="output folder"), owned_folder(path):
            pass
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.fault(10)
@pytest.mark.skipif(os.name == "nt", reason="needs pipes with names")
def test_pipes_are_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (lambda: write_text(pipe, "new"), lambda: check_writable(pipe)):
        with pytest.raises(RunFolderError, match="pipe is a device or a pipe"):
            write()
    assert pipe.is_fifo()
    link = tmp_path / "link"
    link.symlink_to(pipe)  # as /dev/stdout may be
    with pytest.raises(RunFolderError, match="link is a device or a pipe"):
        write_text(link, "new")
    assert link.is_symlink()
    with pytest.raises(RunFolderError, match="File name too long"):
        check_writable(tmp_path / ("n" * 300))
