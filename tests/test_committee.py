"""Several networks in one, each of which learns from its own part of every batch."""

import pytest
import torch
import torch.nn.functional as F

from fmnist_aug import load_classifier, load_dataset
from fmnist_aug.data import stratified_slice
from fmnist_aug.models import Committee
from fmnist_aug.training import Hardware, TrainSettings, train_model


@pytest.fixture
def committee():
    torch.manual_seed(0)
    return Committee(4, members=3, width=8, stem=4)


def test_each_member_learns_as_it_would_alone_from_its_part(committee):
    images, labels = torch.randn(12, 1, 28, 28), torch.arange(12) % 4
    logits = committee.train()(images)
    F.cross_entropy(logits, labels).backward()
    found = [
        [weight.grad.clone() for weight in member.parameters()] for member in committee.members
    ]
    for number, member in enumerate(committee.members):
        part = slice(4 * number, 4 * number + 4)
        alone = member(images[part])
        assert torch.allclose(alone, logits[part], atol=1e-6)
        member.zero_grad()
        F.cross_entropy(alone, labels[part]).backward()
        for weight, gradient in zip(member.parameters(), found[number], strict=True):
            assert torch.allclose(weight.grad, gradient, atol=1e-6)


def test_the_committee_says_the_mean_of_its_members(committee):
    images = torch.randn(5, 1, 28, 28)
    members = [member.eval()(images) for member in committee.members]
    assert not torch.allclose(members[0], members[1])
    assert torch.allclose(committee.eval()(images), sum(members) / 3, atol=1e-6)


@pytest.mark.parametrize("count", [2, 5, 6, 7, 11])
def test_batches_of_any_size_are_learnt_from(committee, count):
    committee.train()(torch.randn(count, 1, 28, 28)).sum().backward()
    for member in committee.members:
        assert torch.isfinite(member.head.weight.grad).all()
        assert member.head.weight.grad.abs().sum() > 0


def test_a_committee_is_trained_and_kept_as_any_network_is(tmp_path):
    images = stratified_slice(load_dataset("fashion-mnist", "train"), 400)
    settings = TrainSettings(
        model="deep-cnn-48-x3",
        epochs=0.5,
        batch_size=48,
        optimizer="muon",
        progressive_resizing=0.5,
        ema=0.9,
    )
    trained = train_model(images, settings, hardware=Hardware("cpu", "fp32")).classifier
    trained.save(tmp_path / "committee.safetensors")
    loaded = load_classifier(tmp_path / "committee.safetensors")
    assert isinstance(loaded.model, Committee)
    few = images.images[:20]
    assert (loaded.predict_logits(few) == trained.predict_logits(few)).all()
