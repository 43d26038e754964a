import dataclasses

import numpy as np
import pytest
import torch

from fmnist_aug import ConfusionPlan, ConfusionReport
from fmnist_aug.models import FastCNN
from fmnist_aug.training import TrainSettings, train_model
from fmnist_aug.training.resizing import resize, size_at, work_done
from trainings.short import CPU

SETTINGS = TrainSettings(
    model="fast-cnn", epochs=2, batch_size=50, optimizer="muon", progressive_resizing=0.5
)


@pytest.fixture
def seen(monkeypatch):
    """Whether the network was training, and at which size, each time that it was asked."""
    seen = []
    forward = FastCNN.forward

    def watch(self, images):
        seen.append((self.training, tuple(images.shape[2:])))
        return forward(self, images)

    monkeypatch.setattr(FastCNN, "forward", watch)
    return seen


def test_images_grow_from_half_the_side_over_half_the_pixels_to_all_of_them():
    sizes = [size_at(step / 20, (28, 28), 0.5) for step in range(20)]
    assert sizes == [(14, 14)] * 5 + [(20, 20)] * 5 + [(28, 28)] * 10
    assert size_at(0.0, (40, 64), 0.5) == (20, 32)
    assert size_at(0.0, (12, 28), 0.5) == (8, 14), "the networks take nothing smaller"
    assert size_at(0.0, (28, 28), 0.0) == (28, 28)


def test_the_time_that_is_left_goes_by_pixels_not_by_steps():
    pixels = [np.prod(size_at(step / 20, (28, 28), 0.5)) for step in range(20)]
    for step in range(21):
        expected = sum(pixels[:step]) / sum(pixels)
        assert work_done(step / 20, (28, 28), 0.5) == pytest.approx(expected)
        assert work_done(step / 20, (28, 28), 0.0) == pytest.approx(step / 20)


def test_resizing_keeps_the_brightness_and_averages_over_what_it_drops():
    images = torch.rand(3, 2, 28, 20, generator=torch.Generator().manual_seed(0))
    assert resize(images, (28, 20)) is images
    half = resize(images, (14, 10))
    assert half.shape == (3, 2, 14, 10)
    assert torch.allclose(half.mean((2, 3)), images.mean((2, 3)), atol=0.02)
    assert torch.allclose(resize(torch.ones(1, 1, 28, 28), (20, 20)), torch.ones(1, 1, 20, 20))
    stripes = torch.tensor([1.0, -1.0]).repeat(14).expand(1, 1, 28, 28)
    assert resize(stripes, (14, 14))[..., 1:-1].abs().max() < 0.6, "every other pixel would be 1"


def test_a_network_trains_on_small_images_first_and_is_asked_about_whole_ones(garments, seen):
    trained = train_model(garments, SETTINGS, hardware=CPU)
    assert [size for training, size in seen if training] == (
        [(14, 14)] * 6 + [(20, 20)] * 6 + [(28, 28)] * 12
    )
    seen.clear()
    accuracy = (trained.classifier.predict(garments.images) == garments.labels).mean()
    assert accuracy > 0.5
    assert set(seen) == {(False, (28, 28))}


def test_a_network_of_one_size_only_sees_images_as_they_are(garments):
    settings = dataclasses.replace(SETTINGS, model="baseline-cnn-200k", epochs=0.5)
    small = garments.subset(np.arange(100))
    whole = dataclasses.replace(settings, progressive_resizing=0.0)
    one, other = (
        train_model(small, each, hardware=CPU).classifier.predict_logits(small.images)
        for each in (settings, whole)
    )
    assert (one == other).all()


def test_a_plan_is_refreshed_by_images_of_the_size_of_the_last_step(garments, seen):
    counts = np.diag([90] * 10)
    counts[0, 6] = counts[6, 0] = 10
    report = ConfusionReport(tuple(map(tuple, counts.tolist())), garments.class_names)
    plan = dataclasses.replace(ConfusionPlan.from_report(report), refresh_every=1)
    train_model(garments, dataclasses.replace(SETTINGS, epochs=4), plan=plan, hardware=CPU)
    before = None
    asked = set()
    for training, size in seen:
        if training:
            before = size
        else:
            assert size == before
            asked.add(size)
    assert asked == {(14, 14), (20, 20), (28, 28)}
