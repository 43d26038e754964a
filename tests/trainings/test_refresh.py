import dataclasses

import numpy as np
import pytest
import torch

from fmnist_aug import AugmentationSampler, AugmentedDataset, ConfusionPlan, ConfusionReport
from fmnist_aug.augment import get_policy
from fmnist_aug.classifier import read_tensors
from fmnist_aug.comparison import ARMS, arm_treatment
from fmnist_aug.distributed import Processes
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.sampler import DistributedAugmentationSampler
from fmnist_aug.training import progress, refresh, train_model
from fmnist_aug.training.batches import Batches
from fmnist_aug.training.engine import _header
from fmnist_aug.training.refresh import RefreshedDraws, hold_back, refresh_plan
from trainings.short import CPU, SHORT


def report_of(pairs, names):
    counts = np.diag([90] * 10)
    for one, other in pairs:
        counts[one, other] = counts[other, one] = 10
    return ConfusionReport(tuple(map(tuple, counts.tolist())), names)


@pytest.fixture(scope="module")
def plan(garments):
    report = report_of([(0, 6)], garments.class_names)
    plan = ConfusionPlan.from_report(report, policy="buttons")
    return dataclasses.replace(plan, refresh_every=1)


def make_draws(garments, plan, predict, draws=3000, every=1):
    sampler = AugmentationSampler(garments, dataclasses.replace(plan, refresh_every=0), seed=1)
    return RefreshedDraws(garments, sampler, every, draws, [], predict)


def test_parts_are_held_back_of_each_class_alike_and_never_more_than_a_quarter():
    labels = np.repeat(np.arange(4), [200, 100, 40, 3])
    for parts, share in ((0, 0.0), (1, 0.05), (5, 0.05), (25, 0.01)):
        held_for = hold_back(labels, parts, seed=3)
        assert set(held_for) == set(range(parts + 1))
        for label, size in enumerate((200, 100, 40, 3)):
            found = np.bincount(held_for[labels == label], minlength=parts + 1)[1:]
            assert (found == round(share * size)).all()
    assert (hold_back(labels, 5, 3) == hold_back(labels, 5, 3)).all()
    assert (hold_back(labels, 5, 3) != hold_back(labels, 5, 4)).any()


def test_a_refresh_looks_at_images_that_were_never_drawn_and_draws_them_from_then_on(
    garments, plan
):
    drawn, looked_at, wrong = set(), [], {1: 3, 3: 1}

    def predict(images):
        shown = {image.tobytes() for image in images}
        looked_at.append(shown)
        assert not shown & drawn, "it was trained on"
        labels = {image.tobytes(): label for image, label in zip(*everything, strict=True)}
        found = [labels[image.tobytes()] for image in images]
        return np.array([wrong.get(label, label) for label in found])

    everything = garments.images, garments.labels.tolist()
    draws = make_draws(garments, plan, predict)
    assert draws.refreshes == 4
    for epoch in range(6):
        indices, copies = draws.epoch_draws(epoch)
        drawn |= {garments.images[index].tobytes() for index in indices}
        extra = np.bincount(garments.labels[indices[copies > 0]], minlength=10)
        aimed = (0, 6) if epoch == 0 else (1, 3)
        assert extra[list(aimed)].sum() > 0.8 * extra.sum()
        assert draws.length_in(epoch) == len(indices)
    assert len(looked_at) == 4
    assert all(not one & other for one in looked_at for other in looked_at if one is not other)
    assert len(drawn) == len({image.tobytes() for image in garments.images}), "none is lost"
    assert set(draws.epoch_draws(5)[0]) == set(range(600))
    # gone on from the plans that were kept, without another look
    again = make_draws(garments, plan, None)
    again.plans.extend(draws.plans)
    for epoch in range(6):
        assert (again.epoch_draws(epoch)[0] == draws.epoch_draws(epoch)[0]).all()


def test_a_refreshed_plan_draws_as_much_as_before_or_stays_as_it_is(plan):
    counts = [100, 80, 120, 60, 100, 50, 90, 100, 100, 100]
    found = refresh_plan(plan, report_of([(2, 4), (1, 3)], plan.class_names), counts)
    assert found.classes == (1, 2, 3, 4)
    assert np.dot(found.extra_draws, counts) == pytest.approx(np.dot(plan.extra_draws, counts))
    assert (found.policy, found.refresh_every) == ("buttons", 1)
    nothing = report_of([], plan.class_names)
    assert refresh_plan(plan, nothing, counts) is plan
    empty = ConfusionPlan.empty(plan.class_names)
    assert refresh_plan(empty, report_of([(1, 3)], plan.class_names), counts) is empty


def test_mixing_takes_no_partner_that_is_held_back(garments, plan):
    mixing = dataclasses.replace(plan, policy="mix-within")
    confused = np.array([6, 1, 2, 3, 4, 5, 0, 7, 8, 9])  # every T-shirt for a shirt, and back

    def predict(images):
        return confused[[labels[image.tobytes()] for image in images]]

    labels = {
        image.tobytes(): label
        for image, label in zip(garments.images, garments.labels.tolist(), strict=True)
    }
    draws = make_draws(garments, mixing, predict)
    batches = Batches(
        garments,
        draws,
        50,
        get_policy("none"),
        get_policy("mix-within"),
        1,
        _header(garments, SHORT, get_policy("none")),
        torch.device("cpu"),
    )
    for _ in batches.stream(0, 40):
        ((_, _, partners),) = batches._find_mixtures()
        assert not draws.unseen[partners.pool.numpy()].any()
    assert len(draws.plans) >= 2


def weights(trained):
    return list(trained.classifier.model.state_dict().values())


class Stop(Exception):
    pass


def test_a_refreshed_training_goes_on_to_the_same_bits(garments, plan, tmp_path, monkeypatch):
    monkeypatch.setattr(refresh, "MOST_HELD_BACK", 0.4)
    monkeypatch.setattr(refresh, "HELD_BACK", 0.2)
    monkeypatch.setattr(progress, "_REPORT_SECONDS", 0.0)
    options = {"plan": dataclasses.replace(plan, keep=0.5), "seed": 3, "hardware": CPU}
    unbroken = train_model(garments, SHORT, **options)
    assert len(unbroken.refreshed) >= 2
    assert any("held back" in made.source for made in unbroken.refreshed)
    state = tmp_path / "state.safetensors"

    def stop(told):
        if told.step == 14:
            raise Stop

    with pytest.raises(Stop):
        train_model(garments, SHORT, state_path=state, on_progress=stop, **options)
    assert 0 < len(read_tensors(state)[2]["refreshed"]) < len(unbroken.refreshed)
    seen = []
    resumed = train_model(garments, SHORT, state_path=state, on_progress=seen.append, **options)
    assert seen[0].step > 1, "it began again at the beginning"
    assert resumed.refreshed == unbroken.refreshed
    assert all(map(torch.equal, weights(resumed), weights(unbroken)))


def test_a_training_too_short_for_a_refresh_holds_nothing_back(garments, plan):
    rare = dataclasses.replace(plan, refresh_every=10)
    once = dataclasses.replace(plan, refresh_every=0)
    short = dataclasses.replace(SHORT, epochs=0.5)
    first, second = (train_model(garments, short, plan=p, hardware=CPU) for p in (rare, once))
    assert first.refreshed == ()
    assert all(map(torch.equal, weights(first), weights(second)))


def test_where_a_plan_cannot_be_refreshed_it_is_refused(garments, plan):
    with pytest.raises(UsageError, match="a sampler can't know"):
        AugmentationSampler(garments, plan)
    with pytest.raises(UsageError, match="a sampler can't know"):
        DistributedAugmentationSampler(garments, plan, num_replicas=2, rank=0)
    with pytest.raises(UsageError, match="2 processes can't follow"):
        train_model(garments, SHORT, plan=plan, hardware=CPU, processes=Processes(0, 2))
    with pytest.raises(DataError, match="refresh_every"):
        dataclasses.replace(plan, refresh_every=-1)
    image, label = AugmentedDataset([(garments.images[0], 6)], plan)[0]
    assert (image.shape, label) == ((1, 28, 28), 6), "its policy is known, whatever the classes"


def test_only_arms_of_the_confused_classes_are_refreshed(plan):
    treated = {arm: arm_treatment(arm, plan, get_policy("flip"), [60] * 10)[1] for arm in ARMS}
    refreshed = {arm for arm, made in treated.items() if made.refresh_every}
    assert refreshed == {"targeted", "sampler-only"}


def test_a_refresh_is_part_of_the_plan_and_of_the_command_line(small, plan, tmp_path):
    from click.testing import CliRunner

    from fmnist_aug.cli.main import cli

    assert ConfusionPlan.from_json(plan.to_json()) == plan
    assert "chosen anew every 1 pass" in plan.to_table()
    path = tmp_path / "plan.json"
    arguments = ["--dataset", str(small), "--preset", "smoke", "--epochs", "1.5", "-q"]
    arguments += ["--device", "cpu"]
    made = CliRunner().invoke(
        cli,
        ["plan", *arguments, "--pairs", "0:6", "--refresh", "1", "--out", str(path)],
        catch_exceptions=False,
    )
    assert made.exit_code == 0
    assert ConfusionPlan.from_json(path.read_text()).refresh_every == 1
    options = ["--plan", str(path), "--runs", "1", "--arm", "targeted", "--jobs", "1"]
    compared = CliRunner().invoke(
        cli,
        ["compare", *arguments, *options, "--out", str(tmp_path / "out")],
        catch_exceptions=False,
    )
    assert compared.exit_code == 0
    refused = CliRunner().invoke(cli, ["plan", *arguments, "--search", "--refresh", "2"])
    assert refused.exit_code == 2
