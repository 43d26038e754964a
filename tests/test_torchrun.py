import json
import os
import subprocess
import sys

import pytest
import torch


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch has no gloo here")
def test_two_processes_train_one_network_and_one_of_them_writes(small, tmp_path):
    path = tmp_path / "model.safetensors"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "fmnist_aug", "train", "--dataset", str(small), "--preset", "smoke"]
    command += ["--epochs", "2", "--device", "cpu", "--precision", "fp32", "--json", "--quiet"]
    done = subprocess.run(
        [*command, "--out", str(path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["processes"] == 2
    assert told["test_accuracy"] > 0.3
    names = sorted(found.name for found in tmp_path.iterdir())
    assert names == ["model.safetensors", "model.safetensors.card.md"]
