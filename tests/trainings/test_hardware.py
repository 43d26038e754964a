"""What a training runs on, in which precision, and the presets that follow."""

import dataclasses
import types

import numpy as np
import pytest
import torch

from fmnist_aug.errors import UsageError
from fmnist_aug.training import (
    PRESETS,
    Hardware,
    TrainSettings,
    choose_hardware,
    default_preset,
    measure,
    measure_precision,
)
from fmnist_aug.training.measure import choose_fastest
from trainings.short import SHORT


def test_the_hardware_is_chosen_by_what_the_cpu_can_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for capability, precision in (("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=capability: {name: True})
        assert choose_hardware() == Hardware("cpu", precision)
    with pytest.raises(UsageError, match="no cuda device"):
        choose_hardware("cuda")


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((10, 0), "bf16"), ((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 1), "fp32")],
)
def test_a_gpu_gets_the_precision_that_its_capability_allows(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert choose_hardware() == Hardware("cuda", precision)


def test_the_fastest_precision_is_taken_unless_the_rule_is_as_fast_but_for_noise():
    assert choose_fastest({"fp32": 0.10, "bf16": 0.20}, "bf16") == "fp32"
    assert choose_fastest({"fp32": 0.10, "bf16": 0.05}, "fp32") == "bf16"
    assert choose_fastest({"fp32": 0.100, "bf16": 0.101}, "bf16") == "bf16"


@pytest.mark.parametrize("capability", ["avx2", "amx_bf16"])
def test_measuring_times_each_precision_on_real_steps(garments, monkeypatch, capability):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True})
    monkeypatch.setattr(measure, "TURNS", 1)
    before = torch.get_rng_state()
    small = dataclasses.replace(SHORT, batch_size=16)
    found = measure_precision(garments, small, "cpu", choose_hardware("cpu").precision)
    assert found.trial_seconds.keys() == {"fp32", "bf16"}
    assert min(found.step_seconds.values()) > 0
    assert found.hardware.precision in found.step_seconds
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_preset_follows_from_the_machine():
    assert default_preset(Hardware("cpu", "fp32")) == "light"
    assert default_preset(Hardware("cpu", "bf16")) == "fast"
    assert default_preset(Hardware("cuda", "bf16")) == "gpu"
    assert (
        default_preset(Hardware("cuda", "fp16"))
        == default_preset(Hardware("mps", "fp32"))
        == "fast"
    )


def test_presets_are_complete_and_settings_are_checked():
    on_cpus = {"smoke", "fast", "light", "original", "original-cpu", "medium-cpu", "strong-cpu"}
    assert set(PRESETS) == on_cpus | {"gpu", "fast-gpu", "original-gpu", "strong"}
    with pytest.raises(UsageError, match="epochs"):
        TrainSettings(model="fast-cnn", epochs=0)
    with pytest.raises(UsageError, match="less than 1, not 1"):
        TrainSettings(model="fast-cnn", epochs=1, progressive_resizing=1)
    assert SHORT.batch_for(10) == 2
    assert SHORT.steps_for(10) == 10


def test_a_precision_that_is_hopelessly_slow_is_not_measured_on_whole_batches(
    garments, monkeypatch
):
    trained: list[tuple[str, int]] = []

    def train(dataset, settings, hardware):
        trained.append((hardware.precision, settings.batch_size))
        seconds = settings.batch_size * {"fp32": 1, "bf16": 5}[hardware.precision]
        return types.SimpleNamespace(seconds=seconds, steps=1)

    monkeypatch.setattr(measure, "train_model", train)
    small = dataclasses.replace(SHORT, batch_size=16)
    found = measure_precision(garments, small, "cpu", "bf16")
    assert found.hardware == Hardware("cpu", "fp32")
    assert found.trial_seconds == {"fp32": 8, "bf16": 40}
    assert found.step_seconds == {"fp32": 16}
    assert ("bf16", 16) not in trained


def test_precisions_are_measured_on_images_that_are_sorted_by_class(garments, monkeypatch):
    monkeypatch.setattr(measure, "TURNS", 1)
    by_class = garments.subset(np.argsort(garments.labels, kind="stable"))
    small = dataclasses.replace(SHORT, batch_size=4)
    assert measure_precision(by_class, small, "cpu", "fp32").step_seconds


def test_precisions_are_measured_where_most_images_are_of_one_class(garments, monkeypatch):
    labels = np.zeros(len(garments), np.int64)
    labels[3] = 1
    skewed = dataclasses.replace(garments, labels=labels)
    monkeypatch.setattr(measure, "TURNS", 1)
    small = dataclasses.replace(SHORT, batch_size=4)
    assert measure_precision(skewed, small, "cpu", "fp32").step_seconds
