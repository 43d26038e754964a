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


SAM = """
import sys
from fmnist_aug import load_dataset
from fmnist_aug.data import stratified_slice
from fmnist_aug.training import Hardware, TrainSettings, train_model
from fmnist_aug.training.distributed import join_processes

data = stratified_slice(load_dataset("fashion-mnist", "train"), 600)
settings = TrainSettings("fast-cnn", epochs=3, batch_size=50, optimizer="muon", sam=0.1)
with join_processes("cpu") as processes:
    hardware = Hardware("cpu", "fp32")
    made = train_model(data, settings, hardware=hardware, processes=processes).classifier
    right = (made.predict(data.images) == data.labels).mean()
    with open(f"{sys.argv[1]}/{processes.rank}", "w") as file:
        file.write(f"{right} {[value.sum().item() for value in made.model.parameters()]}")
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch has no gloo here")
def test_two_processes_that_go_uphill_by_images_of_their_own_keep_one_network(tmp_path):
    (tmp_path / "sam.py").write_text(SAM)
    (tmp_path / "told").mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(tmp_path / "sam.py"), str(tmp_path / "told")],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / "told" / rank).read_text() for rank in "01")
    assert first == second
    assert float(first.split()[0]) > 0.6
