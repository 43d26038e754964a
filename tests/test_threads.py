"""Two threads that train one network together."""

import threading

import pytest
import torch
from torch import nn

from fmnist_aug import ConfusionPlan, create_model, load_dataset
from fmnist_aug.comparison.jobs import use_threads
from fmnist_aug.data import stratified_slice
from fmnist_aug.training import Hardware, TrainSettings, engine, train_model
from fmnist_aug.training.muon import Muon
from fmnist_aug.training.threads import Copies, Crew, gather_crew, threads_that_pay

CPU = Hardware("cpu", "fp32")
SETTINGS = TrainSettings(model="fast-cnn", epochs=1.5, batch_size=128, optimizer="muon", ema=0.9)


@pytest.fixture(scope="module")
def images():
    return stratified_slice(load_dataset("fashion-mnist", "train"), 1200)


@pytest.fixture
def crew():
    with gather_crew(2) as crew:
        yield crew


def weights(trained):
    return trained.classifier.model.state_dict()


def train(images, threads=2, **more):
    with use_threads(threads):
        return train_model(images, SETTINGS, hardware=CPU, **more)


def test_both_threads_work_at_once_with_one_of_torchs_threads_each():
    together = threading.Barrier(2, timeout=30)

    def work(rank):
        together.wait()
        return rank, threading.get_ident(), torch.get_num_threads()

    with use_threads(2):
        with gather_crew(2) as crew:
            found = crew.run(work)
        assert torch.get_num_threads() == 2
    assert [rank for rank, *_ in found] == [0, 1]
    assert found[0][1] == threading.get_ident() != found[1][1]
    assert {threads for *_, threads in found} == {1}


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_in_either_thread_is_raised_after_both_have_ended(crew, broken):
    ended = []

    def work(rank):
        if rank == broken:
            raise ValueError(f"thread {rank}")
        ended.append(rank)

    with pytest.raises(ValueError, match=f"thread {broken}"):
        crew.run(work)
    assert ended == [1 - broken]
    assert crew.run(lambda rank: rank) == [0, 1], "the crew goes on"


def test_a_crew_maps_as_map_does_and_shares_the_work(crew):
    values = [torch.full((size,), float(size)) for size in (3, 50, 1, 20, 30)]
    workers = []

    def double(value):
        workers.append((threading.get_ident(), len(value)))
        return 2 * value

    for each in (crew, Crew()):
        assert all(map(torch.equal, each.map(double, values), [2 * value for value in values]))
    own = sum(size for thread, size in workers[:5] if thread == threading.get_ident())
    assert own in (51, 53), "of 104 elements"


def test_halves_have_the_gradients_of_the_whole_where_no_image_meets_another():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    inputs = torch.randn(10, 1, 8, 8)
    model(inputs).square().mean().backward()
    whole = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    copies = Copies(model, 2)
    for rank, network in enumerate(copies.models):
        (network(inputs[rank::2]).square().mean() / 2).backward()
    copies.join()
    for weight, expected in zip(model.parameters(), whole, strict=True):
        assert torch.allclose(weight.grad, expected, atol=1e-6)
    assert all(weight.grad is None for weight in copies.models[1].parameters())


def test_copies_share_their_weights_and_average_their_statistics():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    copies = Copies(model.train(), 2)
    other = copies.models[1]
    with torch.no_grad():
        model[0].weight.fill_(0.5)
    for network, value in ((model, 1.0), (other, 3.0)):
        network(torch.full((2, 1, 5, 5), value)).sum().backward()
    assert torch.equal(other[0].weight, model[0].weight)
    means = [each[1].running_mean.clone() for each in copies.models]
    assert not torch.equal(*means)
    copies.join()
    for each in copies.models:
        assert torch.allclose(each[1].running_mean, sum(means) / 2)
        assert each[1].num_batches_tracked == 1


def test_muon_moves_the_weights_as_it_does_alone(crew):
    torch.manual_seed(0)
    start = [torch.randn(size, 8, 3, 3) for size in (8, 16, 12)]
    gradients = [torch.randn_like(weight) for weight in start]
    moved = []
    for more in ({}, {"map": crew.map}):
        weights = [nn.Parameter(weight.clone()) for weight in start]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        Muon(weights, **more).step()
        moved.append(weights)
    assert all(map(torch.equal, *moved))


def test_two_threads_train_to_the_bit_alike_and_nearly_as_one(images, monkeypatch):
    plan = ConfusionPlan.empty(images.class_names, keep=0.5)
    crews = []
    gather = engine.gather_crew
    monkeypatch.setattr(engine, "gather_crew", lambda count: crews.append(count) or gather(count))
    first, second, alone = (train(images, plan=plan, threads=count) for count in (2, 2, 1))
    assert crews == [2, 2, 1]
    assert weights(first).keys() == weights(alone).keys()
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name]), name
    assert first.curve == second.curve
    assert first.images_seen == alone.images_seen
    # the draws and augmentations are the same; batch norm sees 64 images instead of 128
    assert first.curve[0][2] == pytest.approx(alone.curve[0][2], rel=0.05)
    agree = first.classifier.predict(images.images) == alone.classifier.predict(images.images)
    assert agree.mean() > 0.8


def test_a_training_in_two_threads_that_was_stopped_goes_on_to_the_same_weights(images, tmp_path):
    def stop(progress):
        if progress.step > 10:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    whole = train(images)
    with pytest.raises(KeyboardInterrupt):
        train(images, state_path=state, on_progress=stop)
    assert state.exists()
    resumed = train(images, state_path=state)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name


def test_what_can_not_be_shared_stays_in_one_thread():
    with use_threads(2):
        assert threads_that_pay(create_model("fast-cnn"), 128) == 2
        assert threads_that_pay(create_model("fast-cnn"), 127) == 1, "batch norm of a few images"
        assert threads_that_pay(create_model("baseline-cnn"), 128) == 1, "dropout"
    for threads in (1, 3, 4):
        with use_threads(threads):
            assert threads_that_pay(create_model("fast-cnn"), 128) == 1
