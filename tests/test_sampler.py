import dataclasses
import json
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    Subset,
    TensorDataset,
)

from fmnist_aug import (
    AugmentationSampler,
    AugmentedDataset,
    ConfusionPlan,
    DistributedAugmentationSampler,
)
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.sampler import AugmentedIndex


def make_plan(draws):
    names = tuple(f"class {label}" for label in range(len(draws)))
    return ConfusionPlan(names, (), tuple(draws), "none", "made for a test")


@st.composite
def labels_and_plan(draw):
    classes = draw(st.integers(1, 6))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=60))
    weights = draw(st.lists(st.floats(0, 3), min_size=classes, max_size=classes))
    return np.array(labels), make_plan(weights)


def order(sampler):
    return [(int(index), index.epoch, index.copy) for index in sampler]


@given(labels_and_plan(), st.integers(0, 2**31), st.integers(0, 1000))
def test_every_original_is_drawn_once_and_extras_are_as_many_as_planned(case, seed, epoch):
    labels, plan = case
    sampler = AugmentationSampler(labels, plan, seed=seed)
    sampler.set_epoch(epoch)
    drawn = order(sampler)
    assert len(drawn) == len(sampler)
    assert sorted(index for index, _, copy in drawn if copy == 0) == list(range(len(labels)))
    extras = np.array([index for index, _, copy in drawn if copy], int)
    for label, weight in enumerate(plan.extra_draws):
        count = int((labels == label).sum())
        expected = round(weight * count) if len(set(labels.tolist())) > 1 else 0
        found = extras[labels[extras] == label]
        assert len(found) == expected
        # without replacement until all were drawn
        times = np.bincount(found, minlength=len(labels))[labels == label]
        assert not len(times) or times.max() - times.min() <= 1
    assert len({(index, copy) for index, _, copy in drawn}) == len(drawn)


@pytest.mark.fault(16)
@given(labels_and_plan(), st.integers(0, 100))
def test_the_order_is_a_function_of_seed_and_epoch_and_touches_no_global_state(case, seed):
    labels, plan = case
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    first = AugmentationSampler(labels, plan, seed=seed)
    second = AugmentationSampler(labels.tolist(), plan, seed=seed)
    assert order(first) == order(second) == order(first)
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_epochs_and_seeds_differ_and_the_order_is_the_same_on_every_machine():
    sampler = AugmentationSampler([0, 1] * 50, make_plan([0.5, 0]), seed=3)
    first = order(sampler)
    sampler.set_epoch(1)
    assert [draw[0] for draw in order(sampler)] != [draw[0] for draw in first]
    other = AugmentationSampler([0, 1] * 50, make_plan([0.5, 0]), seed=4)
    assert order(other) != first
    # written down once: a change here changes everybody's runs
    assert [draw[0] for draw in first[:8]] == [92, 67, 72, 82, 68, 41, 34, 30]


@settings(max_examples=50)
@given(labels_and_plan(), st.data())
def test_it_resumes_in_mid_epoch(case, data):
    labels, plan = case
    sampler = AugmentationSampler(labels, plan, seed=1)
    sampler.set_epoch(5)
    whole = order(sampler)
    used = data.draw(st.integers(0, len(whole)))
    iterator = iter(sampler)
    for _ in range(used):
        next(iterator)
    state = json.loads(json.dumps(sampler.state_dict()))
    resumed = AugmentationSampler(labels, plan, seed=1)
    resumed.load_state_dict(state)
    resumed.set_epoch(5)  # what a training loop does before each epoch
    assert order(resumed) == whole[used:]
    assert order(resumed) == whole, "the next pass is a whole epoch again"


def test_a_state_counts_consumed_draws_where_a_loader_fetched_ahead():
    sampler = AugmentationSampler([0, 1] * 20, make_plan([0.5, 0.5]))
    loader = DataLoader(list(range(40)), batch_size=5, sampler=sampler, num_workers=2)
    seen = next(iter(loader)).tolist()
    resumed = AugmentationSampler([0, 1] * 20, make_plan([0.5, 0.5]))
    resumed.load_state_dict(sampler.state_dict(consumed=5))
    assert seen + [int(index) for index in resumed] == [int(index) for index in sampler]


def test_a_state_of_another_sampler_is_refused():
    state = AugmentationSampler([0, 1], make_plan([0, 0]), seed=1).state_dict()
    with pytest.raises(DataError, match="seed 1"):
        AugmentationSampler([0, 1], make_plan([0, 0]), seed=2).load_state_dict(state)
    with pytest.raises(DataError, match="no epoch, consumed, length"):
        AugmentationSampler([0, 1], make_plan([0, 0])).load_state_dict({"seed": 0})


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 2},
        {"length": 7},
        {"consumed": 41},
        {"consumed": "3"},
        {"consumed": [3, 4]},
        {"epoch": float("nan")},
    ],
    ids=str,
)
def test_a_sampler_that_refuses_a_state_stays_where_it_was(wrong):
    sampler = AugmentationSampler([0, 1] * 20, make_plan([0, 0]), seed=1)
    sampler.set_epoch(3)
    sampler.load_state_dict(sampler.state_dict(consumed=5))
    rest = order(sampler)
    sampler.load_state_dict(sampler.state_dict(consumed=5))
    with pytest.raises((DataError, UsageError)):
        sampler.load_state_dict({**sampler.state_dict(), "epoch": 4, **wrong})
    assert sampler.epoch == 3
    assert len(rest) == 35
    assert order(sampler) == rest


@given(labels_and_plan(), st.integers(1, 100))
def test_num_samples_caps_an_epoch(case, cap):
    labels, plan = case
    full = AugmentationSampler(labels, plan)
    capped = AugmentationSampler(labels, plan, num_samples=cap)
    assert order(capped) == order(full)[:cap]
    assert len(capped) == min(cap, len(full))


@given(labels_and_plan(), st.sampled_from([1, 2, 3]), st.booleans(), st.integers(0, 9))
def test_the_ranks_together_are_the_single_process_epoch(case, ranks, drop_last, epoch):
    labels, plan = case
    single = AugmentationSampler(labels, plan, seed=7)
    single.set_epoch(epoch)
    whole = order(single)
    shards = []
    for rank in range(ranks):
        sampler = DistributedAugmentationSampler(
            labels, plan, num_replicas=ranks, rank=rank, seed=7, drop_last=drop_last
        )
        sampler.set_epoch(epoch)
        shards.append(order(sampler))
        assert len(shards[-1]) == len(sampler)
        assert isinstance(sampler, DistributedSampler)
    joined = [draw for draws in zip(*shards, strict=True) for draw in draws]
    if drop_last and len(whole) % ranks:
        assert joined == whole[: len(joined)]
        assert len(whole) - len(joined) < ranks
    else:
        assert joined[: len(whole)] == whole
        assert len(joined) - len(whole) < ranks


def test_a_rank_resumes_in_mid_epoch():
    make = {"num_replicas": 2, "rank": 1, "seed": 2}
    sampler = DistributedAugmentationSampler([0, 1] * 10, make_plan([1, 0]), **make)
    sampler.set_epoch(3)
    whole = order(sampler)
    iterator = iter(sampler)
    for _ in range(4):
        next(iterator)
    resumed = DistributedAugmentationSampler([0, 1] * 10, make_plan([1, 0]), **make)
    resumed.load_state_dict(sampler.state_dict())
    assert order(resumed) == whole[4:]


class Draws(Dataset):
    """Gives back what it was asked for."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return int(index), index.epoch, index.copy


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_with_workers_goes_on_in_mid_epoch(batch_size, workers):
    sampler = AugmentationSampler([0, 1] * 20, make_plan([0.5, 0.1]))
    expected = [(int(index), index.epoch, index.copy) for index in sampler]
    sampler.load_state_dict(sampler.state_dict(consumed=8))
    loader = DataLoader(Draws(), batch_size=batch_size, sampler=sampler, num_workers=workers)
    for start in (8, 0):
        parts = [zip(*part, strict=True) if batch_size else [part] for part in loader]
        assert [tuple(map(int, draw)) for part in parts for draw in part] == expected[start:]


@pytest.mark.fault(16)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_get_the_same_draws_as_the_main_process(workers, persistent):
    def epochs(loader, sampler):
        found = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            found.append([tuple(column.tolist() for column in batch) for batch in loader])
        return found

    def make(**options):
        sampler = AugmentationSampler([0, 1] * 20, make_plan([0.5, 0.1]))
        return DataLoader(Draws(), batch_size=8, sampler=sampler, **options), sampler

    expected = epochs(*make())
    assert expected[0] != expected[1]
    assert epochs(*make(num_workers=workers, persistent_workers=persistent)) == expected


def test_an_augmented_index_is_an_int_that_survives_pickling():
    index = pickle.loads(pickle.dumps(AugmentedIndex(7, epoch=2, copy=1)))
    assert (index, index.epoch, index.copy) == (7, 2, 1)
    assert ["a", "b", "c"][AugmentedIndex(1)] == "b"


def test_labels_that_a_plan_does_not_know_are_refused():
    with pytest.raises(DataError, match="knows 2 classes"):
        AugmentationSampler([0, 1, 2], make_plan([0, 0]))


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"num_samples": 0}, {"seed": 0.5}], ids=["seed", "cap", "fraction"]
)
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError):
        AugmentationSampler([0, 1], make_plan([0, 0]), **options)


def test_it_draws_from_millions_of_images():
    labels = np.tile(np.arange(10), 1_700_000)  # more than 2^24, where torch's weighted draw ends
    sampler = AugmentationSampler(labels, make_plan([0.5] + [0.0] * 9))
    indices, copies = sampler.epoch_draws(0)
    assert len(indices) == len(sampler) == 17_000_000 + 850_000
    assert copies.sum() == 850_000


@given(labels_and_plan(), st.data())
def test_images_are_drawn_as_often_as_their_weights_say(case, data):
    labels, plan = case
    digits = st.text("0123456789", min_size=len(labels), max_size=len(labels))
    excluded = data.draw(st.sets(st.integers(0, len(labels) - 1), max_size=3))
    plan = dataclasses.replace(
        plan, image_weights=data.draw(digits), excluded=tuple(sorted(excluded))
    )
    weights = np.array([int(digit) for digit in plan.image_weights], float)
    weights[list(excluded)] = 0
    sampler = AugmentationSampler(labels, plan, seed=3)
    indices, copies = sampler.epoch_draws(data.draw(st.integers(0, 5)))
    assert len(indices) == len(sampler)
    assert sorted(indices[copies == 0].tolist()) == list(range(len(labels)))
    times = np.bincount(indices[copies > 0], minlength=len(labels))
    for label, extras in enumerate(sampler.extras_per_class):
        members = labels == label
        assert times[members].sum() == extras
        if extras:
            expected = extras * weights[members] / weights[members].sum()
            assert (np.abs(times[members] - expected) < 1 + 1e-6).all()
    assert len(set(zip(indices.tolist(), copies.tolist(), strict=True))) == len(indices)


def test_weights_are_kept_on_average():
    plan = dataclasses.replace(make_plan([1.0, 0]), image_weights="13509" + "0" * 5)
    sampler = AugmentationSampler([0] * 5 + [1] * 5, plan)
    times = np.zeros(10)
    for epoch in range(3000):
        indices, copies = sampler.epoch_draws(epoch)
        times += np.bincount(indices[copies > 0], minlength=10)
    assert times[:5] / 3000 == pytest.approx(5 * np.array([1, 3, 5, 0, 9]) / 18, abs=0.05)


@pytest.mark.parametrize(
    "changes", [{"image_weights": "123"}, {"excluded": (7,)}], ids=["weights", "excluded"]
)
def test_weights_of_other_images_are_refused(changes):
    plan = dataclasses.replace(make_plan([1.0, 0]), **changes)
    with pytest.raises(DataError, match="made for"):
        AugmentationSampler([0, 1], plan)


def test_extra_draws_start_grow_and_stop_as_planned():
    plan = dataclasses.replace(make_plan([1.0, 0]), start=0.2, ramp=0.4, stop=0.8)
    sampler = AugmentationSampler([0, 1] * 50, plan, epochs=10)
    lengths = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        indices, copies = sampler.epoch_draws(epoch)
        assert len(indices) == len(sampler)
        assert sorted(indices[copies == 0].tolist()) == list(range(100))
        lengths.append(len(sampler) - 100)
    assert lengths == [0, 0, 6, 19, 31, 44, 50, 50, 0, 0]
    sampler.set_epoch(5)
    state = sampler.state_dict(consumed=130)
    resumed = AugmentationSampler([0, 1] * 50, plan, epochs=10)
    resumed.load_state_dict(state)
    assert len(order(resumed)) == 14
    with pytest.raises(UsageError, match="epochs="):
        AugmentationSampler([0, 1], plan)
    with pytest.raises(UsageError, match="AugmentationSampler"):
        DistributedAugmentationSampler([0, 1], plan, num_replicas=2, rank=0)


@pytest.mark.parametrize("in_place", [False, True], ids=["on top", "in place"])
def test_extra_draws_start_and_stop_within_an_epoch(in_place):
    plan = dataclasses.replace(make_plan([1.0, 0]), start=0.25, stop=0.7, in_place=in_place)
    sampler = AugmentationSampler([0, 1] * 2000, plan, epochs=2.5)
    copies = [sampler.epoch_draws(epoch)[1] for epoch in range(3)]
    regular = [np.ones(len(each)) if in_place else each == 0 for each in copies]
    passed = np.concatenate([epoch + each.cumsum() / 4000 for epoch, each in enumerate(regular)])
    moments = passed[np.concatenate(copies) > 0] / 2.5
    # in force from epoch 0.625 to epoch 1.75
    assert len(moments) == pytest.approx(1.125 * (1000 if in_place else 2000), abs=1)
    assert [moments.min(), moments.max()] == pytest.approx([0.25, 0.7], abs=0.01)
    middle = np.count_nonzero((moments > 0.3) & (moments < 0.65)) / len(moments)
    assert middle == pytest.approx(0.35 / 0.45, abs=0.05)


def test_extra_draws_that_grow_are_more_at_the_end_of_an_epoch():
    plan = dataclasses.replace(make_plan([1.0, 0]), ramp=1.0)
    _, copies = AugmentationSampler([0, 1] * 2000, plan, epochs=1).epoch_draws(0)
    assert (copies > 0).sum() == 1000
    first, second = np.array_split(copies > 0, 2)
    assert first.sum() / second.sum() == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize("sampler", [AugmentationSampler, DistributedAugmentationSampler])
@pytest.mark.parametrize("twice", [False, True])
def test_parts_of_an_augmented_data_set_would_lose_the_extra_draws(sampler, twice):
    def part(data):
        return Subset(ConcatDataset([data, data]) if twice else data, [0, 1])

    plan = ConfusionPlan(("a", "b"), (), (0.5, 0.0), "flip", "an example")
    images = TensorDataset(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))
    with pytest.raises(UsageError, match="wrap the other way round"):
        sampler(part(AugmentedDataset(images, plan)), plan)
    assert AugmentationSampler(AugmentedDataset(part(images), plan), plan).labels.tolist() == [0, 1]


def test_in_place_too_left_out_images_are_never_augmented_and_others_by_weight():
    labels = np.repeat([0, 1], 100)
    weights = "1" * 50 + "9" * 50 + "1" * 100
    plan = dataclasses.replace(
        ConfusionPlan.empty(("a", "b")),
        extra_draws=(0.5, 0.0),
        in_place=True,
        image_weights=weights,
        excluded=tuple(range(90, 100)),
    )
    sampler = AugmentationSampler(labels, plan, seed=1)
    times = np.zeros(200)
    for epoch in range(40):
        indices, copies = sampler.epoch_draws(epoch)
        assert sorted(indices) == list(range(200))
        times[indices] += copies
    assert times[90:].sum() == 0
    assert times.sum() == 40 * round(100 / 3)
    assert times[50:90].mean() > 3 * times[:50].mean()
