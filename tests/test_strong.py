"""The networks and settings of the presets strong and strong-cpu, and the original's variants."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fmnist_aug import (
    AugmentationSampler,
    ConfusionPlan,
    compare,
    create_model,
    export,
    load_classifier,
    load_dataset,
)
from fmnist_aug.augment import get_policy
from fmnist_aug.comparison import arm_treatment, base_augmentation
from fmnist_aug.data import stratified_slice
from fmnist_aug.errors import UsageError
from fmnist_aug.models import MODELS, WideResNet, count_parameters
from fmnist_aug.training import Hardware, TrainSettings, get_preset, train_model
from fmnist_aug.training.averaging import WeightAverage
from fmnist_aug.training.batches import Batches
from fmnist_aug.training.engine import _header

CPU = Hardware("cpu", "fp32")


def tiny_garments(images):
    """Garments of 10 × 10 pixels, on which large networks are quick."""
    data = stratified_slice(load_dataset("fashion-mnist", "train"), images)
    return dataclasses.replace(data, images=np.ascontiguousarray(data.images[:, ::3, ::3]))


@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [
        # as counted by others for CIFAR-10: 11.0 and 36.5 million
        ("wide-resnet-16-8", 3, 10_961_370),
        ("wide-resnet-28-10", 3, 36_479_194),
        ("baseline-cnn", 1, 3_659_658),
        ("fast-cnn", 1, 264_704),
    ],
)
def test_networks_have_the_published_numbers_of_parameters(name, channels, parameters):
    with torch.device("meta"):
        assert count_parameters(create_model(name, 10, channels)) == parameters


def test_the_originals_variants_are_what_their_names_say():
    assert 190_000 < count_parameters(create_model("baseline-cnn-200k")) < 210_000
    shapes = {
        name: create_model(name).classifier[1].weight.shape
        for name in MODELS
        if name.startswith("baseline-cnn")
    }
    assert shapes["baseline-cnn-fc64"] == (64, 256 * 7 * 7)
    assert shapes["baseline-cnn-fc128"] == (128, 256 * 7 * 7)
    assert shapes["baseline-cnn-pool3"] == (256, 256 * 3 * 3)
    assert shapes["baseline-cnn-pool4"] == (256, 256)
    with pytest.raises(UsageError, match="at least 16 a side"):
        create_model("baseline-cnn-pool4", image_size=(15, 28))


@pytest.mark.parametrize("name", MODELS)
def test_every_network_gives_logits_for_grey_and_colour(name):
    for channels, size in ((1, (16, 16)), (3, (17, 20))):
        model = create_model(name, 3, channels, size).eval()
        with torch.inference_mode():
            assert model(torch.zeros(1, channels, *size)).shape == (1, 3)


def test_a_depth_that_is_no_wide_residual_networks_is_refused():
    with pytest.raises(UsageError, match="6 n \\+ 4"):
        WideResNet(depth=20)


def test_the_average_is_that_of_the_weights_so_far():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model, 0.5)
    expected = model[0].weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            model[0].weight.fill_(step)
            model[1].running_mean.fill_(-step)
            model[1].num_batches_tracked.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    average.copy_to(model)
    assert torch.allclose(model[0].weight, expected)
    assert torch.allclose(model[1].running_mean, -model[0].weight[0], atol=1e-3)
    assert int(model[1].num_batches_tracked) == 29, "the count of batches is no average"


@pytest.mark.parametrize(
    "change", [{"ema": 1.0}, {"ema": -0.1}, {"augment": "weaker"}, {"augment": "cutout"}]
)
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(UsageError):
        TrainSettings(model="fast-cnn", epochs=1, **change)


def mixed_batches(policy, base):
    garments = stratified_slice(load_dataset("fashion-mnist", "train"), 400)
    draws = tuple(1.0 if label in (0, 6) else 0.0 for label in range(10))
    plan = ConfusionPlan(garments.class_names, (), draws, policy, "made for a test")
    header = _header(garments, TrainSettings(model="fast-cnn", epochs=1), base)
    sampler = AugmentationSampler(garments, plan)
    batches = Batches(
        garments, sampler, 100, base, get_policy(policy), 0, header, torch.device("cpu")
    )
    _, copies = sampler.epoch_draws(0)
    parts = [targets.amax(dim=1) < 1 for _, targets, _ in batches.stream(0, len(copies) // 100)]
    mixed = torch.cat(parts).numpy()
    copies = copies[: len(mixed)]
    return mixed[copies == 0].mean(), mixed[copies > 0].mean()


def test_a_base_policy_mixes_all_draws_and_a_targeted_one_the_extra_draws():
    base = get_policy("flip").then(get_policy("erasing-mix"))
    assert base.name == "flip+erasing-mix"
    for policy in ("erasing", "erasing-mix"):  # half of all draws, and none of them twice
        regular, extra = mixed_batches(policy, base)
        assert 0.35 < regular < 0.6
        assert 0.3 < extra < 0.65
    regular, extra = mixed_batches("mix-away", base)
    assert 0.35 < regular < 0.6
    assert extra > 0.9


def test_the_baseline_is_not_augmented_by_the_settings_either():
    garments = tiny_garments(100)
    base = base_augmentation(garments, get_preset("strong").settings.augment)
    assert base.mix
    plan = ConfusionPlan.empty(garments.class_names)
    assert not arm_treatment("baseline", plan, base, [10] * 10)[0].does_something
    assert arm_treatment("uniform", plan, base, [10] * 10)[0] is base
    # digits are never mirrored, whatever the preset
    digits = load_dataset("mnist", "train").subset(np.arange(20))
    base = base_augmentation(digits, "erasing-mix")
    assert "flip" not in base.name
    header = _header(digits, get_preset("strong").settings, base)
    assert "flip" not in header.views


def test_strong_learns_and_its_checkpoint_predicts_the_same_and_can_be_exported(tmp_path):
    garments = tiny_garments(100)
    settings = dataclasses.replace(
        get_preset("strong").settings, epochs=3, batch_size=10, learning_rate=0.02
    )
    base = base_augmentation(garments, settings.augment)
    classifier = train_model(garments, settings, base=base, hardware=CPU).classifier
    logits = classifier.predict_logits(garments.images)
    assert (logits.argmax(axis=1) == garments.labels).mean() > 0.25
    classifier.save(tmp_path / "strong.safetensors")
    loaded = load_classifier(tmp_path / "strong.safetensors")
    assert loaded.header.model == "wide-resnet-16-8"
    assert np.array_equal(loaded.predict_logits(garments.images), logits)
    assert export.export_classifier(loaded, tmp_path / "strong.pt2", "torch-export") <= 1e-4


def test_predictions_are_those_of_the_average():
    garments = tiny_garments(200)
    settings = TrainSettings(model="fast-cnn", epochs=2, batch_size=20)
    last, averaged = (
        train_model(garments, dataclasses.replace(settings, ema=ema), hardware=CPU)
        for ema in (0.0, 0.9)
    )
    assert last.curve == averaged.curve, "the average has no influence on the training"
    weights = [trained.classifier.model.head.weight for trained in (last, averaged)]
    assert not torch.equal(*weights)
    assert torch.allclose(*weights, atol=0.1)


def test_comparing_with_strong_settings_needs_no_albumentations_and_leaves_a_report(
    small, tmp_path
):
    code = (
        "import sys; sys.modules['albumentations'] = None\n"
        "from fmnist_aug import compare\n"
        "compare(sys.argv[1], out=sys.argv[2], preset='strong', model='fast-cnn', runs=1,"
        "        epochs=0.2, flip=True, device='cpu', jobs=1, pairs='0:1')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small, tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["base_augmentation"] == "flip+erasing-mix"
    assert results["config"]["settings"]["ema"] == get_preset("strong").settings.ema
    assert results["plan"]["keep"] == get_preset("strong").keep == 1  # not the plans' usual half
    again = compare(
        small,
        out=tmp_path / "out",
        preset="strong",
        model="fast-cnn",
        runs=1,
        epochs=0.2,
        flip=True,
        device="cpu",
        pairs="0:1",
    )
    assert again.results == results
