import json
import os
import subprocess
import sys

import pytest
import torch

from fmnist_aug import AugmentationSampler, ConfusionPlan, HardExampleBatchSampler

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
from fmnist_aug.distributed import join_processes

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


HARD_EXAMPLES = """
import json
import sys
import torch
from fmnist_aug import AugmentationSampler, ConfusionPlan, HardExampleBatchSampler

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
plan = ConfusionPlan(("a", "b", "c"), (), (0.5, 0.0, 0.0), "none", "for a test", keep=0.5)
sampler = AugmentationSampler([index % 3 for index in range(50)], plan)
batches, drawn, state = HardExampleBatchSampler(sampler, 3), [], None
for epoch in [0, 1, 2, 2]:  # the last from a state in mid-epoch
    batches.set_epoch(epoch)
    if len(drawn) == 3:
        batches.load_state_dict(state)
    drawn.append([])
    length = len(batches)
    for step, batch in enumerate(batches):
        drawn[-1].append([(int(index), index.epoch, index.copy) for index in batch])
        batches.record([float("nan") if index == 7 else 0.1 * index for index in batch])
        if (epoch, step) == (2, 1):
            state = batches.state_dict()
    assert len(drawn) == 4 or len(drawn[-1]) == length
losses = batches.hard.losses.tolist()
with open(f"{sys.argv[1]}/{rank}", "w") as file:
    json.dump([drawn, losses], file)
torch.distributed.destroy_process_group()
"""


def test_two_processes_share_the_hard_examples_that_one_would_choose(tmp_path):
    (tmp_path / "hard.py").write_text(HARD_EXAMPLES)
    (tmp_path / "told").mkdir()
    run_twice(tmp_path / "hard.py", tmp_path / "told")
    shares, losses = zip(
        *(json.loads((tmp_path / "told" / rank).read_text()) for rank in "01"), strict=True
    )
    assert losses[0] == losses[1]

    plan = ConfusionPlan(("a", "b", "c"), (), (0.5, 0.0, 0.0), "none", "for a test", keep=0.5)
    sampler = AugmentationSampler([index % 3 for index in range(50)], plan)
    alone = HardExampleBatchSampler(sampler, 6)
    for epoch in range(3):
        alone.set_epoch(epoch)
        for step, batch in enumerate(alone):
            expected = [[int(index), index.epoch, index.copy] for index in batch]
            expected += expected[: len(expected) % 2]
            for rank in (0, 1):
                assert shares[rank][epoch][step] == expected[rank::2]
            alone.record([float("nan") if index == 7 else 0.1 * index for index in batch])
        assert [len(share[epoch]) for share in shares] == [step + 1] * 2
    assert alone.hard.losses.tolist() == losses[0]
    assert any(len(batch) % 2 for batch in alone), "one that can't be divided was among them"
    for share in shares:
        assert share[3] == share[2][2:]
