"""Batches of hard examples in a loop of one's own."""

import io
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset

from fmnist_aug import (
    AugmentationSampler,
    AugmentedDataset,
    ConfusionPlan,
    DistributedAugmentationSampler,
    HardExampleBatchSampler,
    load_dataset,
)
from fmnist_aug.errors import DataError, UsageError

NAMES = ("a", "b", "c")
LABELS = np.arange(50) % 3


def make_batches(batch_size=4, labels=LABELS, seed=0, drop_last=False, **changes):
    plan = ConfusionPlan(NAMES, (), (0.5, 0.0, 0.0), "none", "for a test", **changes)
    sampler = AugmentationSampler(labels, plan, seed=seed)
    return HardExampleBatchSampler(sampler, batch_size, drop_last)


def spell(batch):
    return [(int(index), index.epoch, index.copy) for index in batch]


def pass_over(batches, losses=lambda batch: [float(index) for index in batch]):
    """An epoch's batches, whose losses are told."""
    drawn = []
    for batch in batches:
        drawn.append(spell(batch))
        batches.record(losses(batch))
    return drawn


@given(
    st.integers(2, 60), st.integers(1, 9), st.booleans(), st.sampled_from([0.3, 0.5, 0.9, 1.0]),
    st.sampled_from([0.0, 0.4, 1.0, 1.7]), st.integers(0, 9),
)  # fmt: skip
def test_an_epoch_uses_each_draw_once_and_has_as_many_batches_as_it_says(
    images, size, drop_last, keep, keep_after, seed
):
    batches = make_batches(size, LABELS[:images], seed, drop_last, keep=keep, keep_after=keep_after)
    for epoch in range(3):
        batches.set_epoch(epoch)
        everything = spell(batches.sampler)
        drawn = pass_over(batches)
        assert len(drawn) == len(batches)
        flat = list(itertools.chain.from_iterable(drawn))
        places = [everything.index(draw) for draw in flat]
        assert places == sorted(set(places)), "in the sampler's order, none of them twice"
        assert all(len(batch) == size for batch in drawn[:-1])
        if drop_last:
            assert all(len(batch) == size for batch in drawn)
        if keep == 1 or epoch + 1 <= keep_after:
            assert drawn == [spell(b) for b in BatchSampler(batches.sampler, size, drop_last)]
        elif epoch >= keep_after and not drop_last:
            assert len(flat) == pytest.approx(keep * len(everything), abs=1 + len(drawn) / 2)


def test_the_hardest_draws_are_taken_and_those_of_unknown_loss():
    batches = make_batches(4, keep=0.5)
    pass_over(batches)
    batches.hard.losses[[7, 30]] = torch.inf  # as if never trained on
    batches.set_epoch(1)
    everything = spell(batches.sampler)
    for start, batch in zip(range(0, 64, 8), pass_over(batches), strict=False):
        candidates = everything[start : start + 8]
        hardness = sorted(
            (-np.inf if index in (7, 30) else -index for index, *_ in candidates),
        )[: len(batch)]
        taken = sorted(-np.inf if index in (7, 30) else -index for index, *_ in batch)
        assert taken == hardness


def test_losses_are_those_of_the_batch_that_waits_longest_and_nan_is_not_known():
    batches = make_batches(4, LABELS % 2 + 1)  # without extra draws, so no image is drawn twice
    drawn = iter(batches)
    first, second = next(drawn), next(drawn)  # as workers fetch ahead
    batches.record(torch.tensor([1.0, 2.0, float("nan"), 4.0], requires_grad=True))
    batches.record(np.full(4, 5.0))
    known = batches.hard.losses
    assert known[first].tolist() == [1.0, 2.0, np.inf, 4.0]
    assert known[second].tolist() == [5.0] * 4
    with pytest.raises(UsageError, match="no batch waits"):
        batches.record([1.0] * 4)
    next(drawn)
    with pytest.raises(UsageError, match="the losses are 1; compute them with reduction"):
        batches.record(torch.tensor(1.0))
    list(batches)  # another pass forgets the one that was broken off
    assert len(batches._waiting) == len(batches)


def test_a_loop_that_tells_no_losses_is_told_so():
    batches = make_batches(4, keep=0.5)
    list(batches)
    batches.set_epoch(1)
    with pytest.raises(UsageError, match=r"no losses are known in epoch 1.*record\(losses\)"):
        list(batches)


@pytest.mark.parametrize("batch_size", [0, 2.5, None])
def test_what_it_cannot_draw_from_is_refused(batch_size):
    with pytest.raises(UsageError, match="batch_size"):
        make_batches(batch_size)
    plan = ConfusionPlan.empty(NAMES, keep=0.5)
    with pytest.raises(UsageError, match="not a DistributedAugmentationSampler"):
        HardExampleBatchSampler(
            DistributedAugmentationSampler(LABELS, plan, num_replicas=2, rank=0), 4
        )


@pytest.mark.parametrize("stop", [0, 1, 4, 6])
def test_it_goes_on_in_mid_epoch_as_if_it_had_not_been_stopped(stop):
    whole = make_batches(4, keep=0.5)
    expected = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        expected.append(pass_over(whole))

    stopped = make_batches(4, keep=0.5)
    pass_over(stopped)
    stopped.set_epoch(1)
    drawn = iter(stopped)
    for _ in range(stop):
        batch = next(drawn)
        stopped.record([float(index) for index in batch])
    next(drawn)  # fetched, but not trained on
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)

    resumed = make_batches(4, keep=0.5)
    resumed.load_state_dict(torch.load(file))
    assert resumed.sampler.epoch == 1
    assert pass_over(resumed) == expected[1][stop:]
    assert resumed.state_dict()["sampler"]["consumed"] == len(resumed.sampler)
    resumed.set_epoch(2)
    assert resumed.state_dict()["sampler"]["consumed"] == 0
    assert pass_over(resumed) == expected[2]


@pytest.mark.parametrize("wrong", ["no state", "other images", "other seed"])
def test_a_state_of_something_else_changes_nothing(wrong):
    state = {
        "no state": {},
        "other images": make_batches(labels=LABELS[:40]).state_dict(),
        "other seed": make_batches(seed=1).state_dict(),
    }[wrong]
    if "losses" in state:
        state["losses"].fill_(1.0)
    batches = make_batches()
    with pytest.raises(DataError):
        batches.load_state_dict(state)
    assert batches.hard.losses.isinf().all()
    assert batches.state_dict()["sampler"]["consumed"] == 0


class Numbers(Dataset):
    def __getitem__(self, index):
        return int(index)

    def __len__(self):
        return len(LABELS)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_with_workers_gets_the_hardest_too(workers):
    drawn = []
    for _ in range(2):
        batches = make_batches(4, keep=0.5)
        loader = DataLoader(Numbers(), batch_sampler=batches, num_workers=workers)
        seen = []
        for epoch in range(2):
            batches.set_epoch(epoch)
            assert len(loader) == len(batches)
            for indices in loader:
                batches.record(indices.float())
                seen.append(indices.tolist())
        drawn.append(seen)
        known = batches.hard.losses
        assert torch.equal(known, torch.arange(50.0)), "each loss is that of its image"
        skipped = set(range(50)) - set(itertools.chain(*seen[-len(batches) :]))
        assert np.mean(list(skipped)) < 18
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}, {"num_workers": 2}])
def test_a_loader_with_workers_goes_on_in_mid_epoch(options):
    def rest(batches):
        return [part.tolist() for part in DataLoader(Numbers(), batch_sampler=batches, **options)]

    stopped = make_batches(4, keep=0.5)
    everything = [[index for index, *_ in batch] for batch in map(spell, make_batches(4, keep=0.5))]
    for step, indices in enumerate(DataLoader(Numbers(), batch_sampler=stopped, **options)):
        stopped.record(indices.float())
        if step == 2:
            break
    resumed = make_batches(4, keep=0.5)
    resumed.load_state_dict(stopped.state_dict())
    assert rest(resumed) == everything[3:]
    assert rest(resumed) == everything, "the next pass is a whole one"


def test_augmented_images_in_a_loop_of_ones_own():
    data = load_dataset("fashion-mnist", "train").subset(np.arange(300))
    plan = ConfusionPlan.empty(data.class_names, keep=0.5)
    batches = HardExampleBatchSampler(AugmentationSampler(data, plan), 32)
    loader = DataLoader(AugmentedDataset(data, plan, base="flip"), batch_sampler=batches)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(15):
        batches.set_epoch(epoch)
        for images, labels in loader:
            batch = torch.nn.functional.cross_entropy(model(images), labels, reduction="none")
            batches.record(batch)
            optimizer.zero_grad()
            batch.mean().backward()
            optimizer.step()
    right = model(torch.from_numpy(data.images[..., 0]).float() / 255).argmax(1).numpy()
    assert (right == data.labels).mean() > 0.7
