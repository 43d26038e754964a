import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", ["own_training_loop.py", "own_image_folder.py"])
def test_the_example_runs_to_its_end(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "targeted" in done.stdout


@pytest.mark.parametrize("arm", ["train", "targeted"])
def test_held_out_trials_read_no_test_images(arm, tmp_path):
    code = (
        "import sys, fmnist_aug; real = fmnist_aug.load_dataset;"
        "check = lambda name, split: real(name, split) if split == 'train' else 1 / 0;"
        "fmnist_aug.load_dataset = check;"
        f"sys.path.insert(0, {str(EXAMPLES)!r}); import held_out_trials;"
        f"held_out_trials.main(['--images', '600', '--epochs', '1', '--arm', {arm!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=600
    )
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "held_out_trials.jsonl").read_text().splitlines()
    value = json.loads(line)
    assert value["arm"] == arm
    assert value["plan"]["keep"] == 0.5
    assert 0 < value["accuracy"] < 1
