import json
import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="torch has no gloo here"
)


def run_twice(*arguments):
    """Two processes of the same Python program that know of each other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_train_one_network_and_one_of_them_writes(small, tmp_path):
    path = tmp_path / "model.safetensors"
    command = ["-m", "fmnist_aug", "train", "--dataset", small, "--preset", "smoke"]
    command += ["--epochs", "2", "--device", "cpu", "--precision", "fp32", "--json", "--quiet"]
    told = json.loads(run_twice(*command, "--out", path))
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


def test_two_processes_that_go_uphill_by_images_of_their_own_keep_one_network(tmp_path):
    (tmp_path / "sam.py").write_text(SAM)
    (tmp_path / "told").mkdir()
    run_twice(tmp_path / "sam.py", tmp_path / "told")
    first, second = ((tmp_path / "told" / rank).read_text() for rank in "01")
    assert first == second
    assert float(first.split()[0]) > 0.6
