"""Losses and weights that are not finite stop a run with a reason; nothing averages them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmnist_aug import compare, load_dataset
from fmnist_aug.comparison import run
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.errors import RunFolderError, TrainingError
from fmnist_aug.training import Hardware, TrainSettings, engine, train_model

pytestmark = pytest.mark.fault(6)

SETTINGS = TrainSettings(model="fast-cnn", epochs=1, batch_size=20)
CPU = Hardware("cpu", "fp32")


@pytest.fixture(scope="module")
def forty():
    return load_dataset("fashion-mnist", "train").subset(np.arange(40))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_names_step_rate_and_seed(forty, monkeypatch, tmp_path, value):
    cross_entropy = F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda *a, **k: cross_entropy(*a, **k) * value)
    state_path = tmp_path / "state.safetensors"
    with pytest.raises(TrainingError, match=r"by step 8 of 8 \(learning rate .* seed 3"):
        train_model(forty, SETTINGS, seed=3, hardware=CPU, state_path=state_path)
    assert not state_path.exists(), "a broken state is not kept"


def test_a_comparison_with_a_broken_run_has_no_results_and_can_go_on(small, monkeypatch, tmp_path):
    options = {"preset": "smoke", "epochs": 0.1, "device": "cpu", "precision": "fp32", "jobs": 1}
    options |= {"arms": ["baseline"], "runs": 2, "pairs": "0:6", "out": tmp_path}
    trained = run.train_model

    def broken(*arguments, seed, **more):
        cross_entropy = F.cross_entropy
        with monkeypatch.context() as patch:
            if seed == 1:
                patch.setattr(F, "cross_entropy", lambda *a, **k: cross_entropy(*a, **k) * np.nan)
            return trained(*arguments, seed=seed, **more)

    with monkeypatch.context() as patch:
        patch.setattr(run, "train_model", broken)
        with pytest.raises(TrainingError, match=r"learning rate .* seed 1"):
            compare(small, **options)
    done = sorted(path.name for path in (tmp_path / "records").iterdir())
    assert done == ["baseline-0.json"], (
        "the broken run left no figures, the other one keeps its own"
    )
    assert not (tmp_path / "results.json").exists()
    assert len(compare(small, **options).results["runs"]) == 2


def test_weights_that_only_the_last_step_breaks_are_noticed(forty, monkeypatch):
    step = engine._train_step

    def breaking(state, *rest):
        found = step(state, *rest)
        with torch.no_grad():
            next(state.model.parameters())[0] = torch.inf
        return found

    once = TrainSettings(model="fast-cnn", epochs=0.1, batch_size=20)
    monkeypatch.setattr(engine, "_train_step", breaking)
    with pytest.raises(TrainingError, match="weights that are not finite"):
        train_model(forty, once, hardware=CPU)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_never_averaged(tmp_path, classifier, logits, value):
    folder = ComparisonFolder(tmp_path)
    broken = logits.copy()
    broken[1, 1] = value
    folder.save_run({"arm": "uniform", "seed": 0}, classifier.to_bytes(), broken, np.arange(6) % 3)
    with pytest.raises(RunFolderError, match=r"uniform-0\.npz .*not finite"):
        folder.load_logits("uniform", 0)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999"])
def test_records_that_are_not_finite_are_refused(tmp_path, classifier, logits, text):
    folder = ComparisonFolder(tmp_path)
    folder.save_run({"arm": "uniform", "seed": 0}, classifier.to_bytes(), logits, np.arange(6) % 3)
    folder.record("uniform", 0).write_text(f'{{"arm": "uniform", "seed": 0, "x": {text}}}')
    with pytest.raises(RunFolderError, match="not valid JSON"):
        folder.load_run("uniform", 0)
