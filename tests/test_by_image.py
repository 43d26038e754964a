import dataclasses
import json

import numpy as np
import pytest

from fmnist_aug import AugmentationSampler, ConfusionPlan, ConfusionReport
from fmnist_aug.by_image import target_images
from fmnist_aug.comparison import measure_out_of_fold
from fmnist_aug.data import load_dataset
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.training import Hardware, TrainSettings


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    probabilities = rng.dirichlet([0.4, 0.4, 0.4], 300).astype(np.float32)
    report = ConfusionReport.from_predictions(labels, probabilities.argmax(axis=1), list("abc"))
    return ConfusionPlan.from_report(report, "a:b"), labels, probabilities


def weights(plan):
    return np.array([int(digit) for digit in plan.image_weights])


def test_extras_go_to_images_that_are_confused_within_the_pair(case):
    plan, labels, probabilities = case
    aimed = target_images(plan, labels, probabilities)
    for own, other in ((0, 1), (1, 0)):
        members = labels == own
        assert np.corrcoef(weights(aimed)[members], probabilities[members, other])[0, 1] > 0.95
    assert set(weights(aimed)[labels == 2]) == {1}
    assert ConfusionPlan.from_json(aimed.to_json()) == aimed
    sampler = AugmentationSampler(labels, aimed)
    plain = AugmentationSampler(labels, plan)
    assert len(sampler) == len(plain), "as many extras, only of other images"


def test_a_direction_aims_at_one_class_of_a_pair(case):
    plan, labels, probabilities = case
    aimed = target_images(plan, labels, probabilities, direction="first-as-second")
    assert len(set(weights(aimed)[labels == 0])) > 3
    assert set(weights(aimed)[labels == 1]) == {1}


def test_labels_that_are_probably_wrong_are_never_drawn_as_extras(case):
    plan, labels, probabilities = case
    aimed = target_images(plan, labels, probabilities, wrong_from=0.9)
    excluded = list(aimed.excluded)
    assert excluded
    own = probabilities[np.arange(300), labels]
    assert (own[excluded] <= 0.1 + 1e-6).all()
    assert target_images(plan, labels, probabilities, wrong_from=1.1).excluded == ()
    sampler = AugmentationSampler(labels, dataclasses.replace(aimed, extra_draws=(3.0, 3.0, 3.0)))
    for epoch in range(3):
        indices, copies = sampler.epoch_draws(epoch)
        assert not set(indices[copies > 0]) & set(excluded)
        assert set(excluded) <= set(indices[copies == 0]), "they are still trained on once"


def test_probabilities_that_do_not_fit_are_refused(case):
    plan, labels, probabilities = case
    with pytest.raises(DataError, match="one row an image"):
        target_images(plan, labels, probabilities[:, :2])
    with pytest.raises(DataError, match="finite"):
        target_images(plan, labels, np.full_like(probabilities, np.nan))
    with pytest.raises(DataError, match="take the softmax first"):
        target_images(plan, labels, 3 * probabilities)
    for label in (-1, 3):
        with pytest.raises(DataError, match="3 classes are numbered from 0"):
            target_images(plan, np.where(np.arange(300) == 7, label, labels), probabilities)


SETTINGS = TrainSettings(model="fast-cnn", epochs=1, batch_size=50, optimizer="muon")


def test_every_image_is_predicted_by_a_network_that_has_not_seen_it(small, monkeypatch):
    from fmnist_aug.comparison import probe

    train = load_dataset(small, "train").subset(np.arange(120))
    seen, train_model = [], probe.train_model

    def remember(data, *arguments, **options):
        seen.append({image.tobytes() for image in data.images})
        return train_model(data, *arguments, **options)

    monkeypatch.setattr(probe, "train_model", remember)
    found = measure_out_of_fold(train, SETTINGS, 3, hardware=Hardware("cpu", "fp32"))
    assert found.logits.shape == (120, 10)
    assert found.held_out.tolist() == list(range(120))
    assert found.confusions.total == 120
    for image in train.images:
        assert sum(image.tobytes() not in part for part in seen) == 1


def test_test_images_and_too_small_classes_are_not_predicted_out_of_fold(small):
    train = load_dataset(small, "train").subset(np.arange(120))
    with pytest.raises(DataError, match="test split"):
        measure_out_of_fold(load_dataset(small, "test"), SETTINGS, 2)
    with pytest.raises(DataError, match="too few for 100 folds"):
        measure_out_of_fold(train, SETTINGS, 100)
    with pytest.raises(UsageError, match="at least 2"):
        measure_out_of_fold(train, SETTINGS, 1)


def test_the_command_line_aims_at_images(small, tmp_path):
    from click.testing import CliRunner

    from fmnist_aug.cli.main import cli

    path = tmp_path / "plan.json"
    arguments = ["plan", "--dataset", str(small), "--preset", "smoke", "--epochs", "0.3", "-q"]
    arguments += ["--pairs", "0:6", "--folds", "2", "--device", "cpu", "--out", str(path)]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "extra draws by image" in done.stdout
    assert len(json.loads(path.read_text())["image_weights"]) == 600
