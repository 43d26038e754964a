"""Noise in place of the test set's images and labels changes neither plans nor weights."""

import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fmnist_aug import ConfusionPlan, load_classifier
from fmnist_aug.cli.main import cli

COMMON = ["--preset", "smoke", "--device", "cpu", "--precision", "fp32", "-q"]


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    "options",
    [
        ["--epochs", "0.3", "--search", "--trials", "2"],
        ["--epochs", "1.2", "--folds", "2", "--refresh", "1"],
    ],
    ids=["search", "image-level draws and refresh"],
)
def test_noise_in_place_of_the_test_set_changes_neither_plan_nor_weights(
    small, noisy, tmp_path, options, record_property
):
    record_property("seed", 0)  # of the noise
    if "--search" in options:
        pytest.importorskip("optuna")
    found = []
    for name, data in (("clean", small), ("noisy", noisy)):
        out = tmp_path / name
        out.mkdir()
        data = shutil.copytree(data, out / "data")  # by one name, which plans mention
        common = ["--dataset", str(data), *COMMON, *options[:2]]
        planned = ["--pairs", "0:6", *options[2:]]
        if "--search" in options:
            planned += ["--study", str(out / "study.db")]
        plan = out / "plan.json"
        compared = ["--runs", "1", "--arm", "targeted", "--jobs", "1", "--out", str(out / "runs")]
        for command in (
            ["plan", *common, *planned, "--out", str(plan)],
            ["compare", *common, "--plan", str(plan), *compared],
        ):
            assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
        model = load_classifier(out / "runs" / "checkpoints" / "targeted-0.safetensors").model
        predicted = np.load(out / "runs" / "predictions" / "targeted-0.npz")["logits"]
        found.append((plan.read_text(), list(model.state_dict().values()), predicted))
    (plan, weights, logits), (other_plan, other_weights, other_logits) = found
    assert plan == other_plan
    assert ConfusionPlan.from_json(plan).pairs
    assert all(map(torch.equal, weights, other_weights))
    assert not (logits == other_logits).all(), "the noise was not even read"
