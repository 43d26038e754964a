import dataclasses
import json
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from fmnist_aug import load_dataset
from fmnist_aug.training import Hardware

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "benchmark.py"), "--quick", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == code, done.stderr
    return done


def test_quick_sections_give_figures_and_ratios_with_their_spread(tmp_path):
    out = tmp_path / "figures.json"
    printed = run("--only", "startup,augmentation,convolution,training", "--out", out).stdout
    results = json.loads(out.read_text())
    assert "Options" not in printed
    assert {"torch", "device_name", "threads", "commit"} <= results["environment"].keys()
    training = results["training"]["comparisons"]
    assert [name.split(",")[0] for name in training] == ["baseline-cnn", "fast-cnn"]
    for comparison in training.values():
        assert "engine : multiplications alone" in comparison["ratios"]
    assert "preset original, draws : plain loop" in training[next(iter(training))]["ratios"]
    convolution = results["convolution"]["comparisons"]
    assert "128 to 256 channels, 14 × 14" in convolution
    augmentation = results["augmentation"]["comparisons"]
    for comparison in (*training.values(), *convolution.values(), *augmentation.values()):
        for figure in (*comparison["figures"].values(), *comparison["ratios"].values()):
            low, high = figure["quartiles"]
            assert 0 < low <= figure["median"] <= high
            assert len(figure["values"]) == 2
    assert (
        "import fmnist_aug : import click" in results["startup"]["comparisons"]["start"]["ratios"]
    )


@pytest.mark.parametrize("has_bf16", [False, True])
def test_convolutions_are_not_measured_in_emulated_bf16(tmp_path, monkeypatch, has_bf16):
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import convolution
    from benchmarking.timing import Options

    monkeypatch.setattr(convolution, "cpu_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(convolution, "against_direct", lambda *_: {})
    measured = convolution.measure(Options(True, 1, 1, tmp_path / "accuracy.jsonl"))
    in_bf16 = ["bf16" in case for case in measured["comparisons"]]
    assert any(in_bf16) == has_bf16
    assert not all(in_bf16)
    assert any("emulates" in note for note in measured["notes"]) != has_bf16


def test_trainings_to_an_accuracy_are_kept_line_by_line_and_not_repeated(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import accuracy
    from benchmarking.timing import Options

    trained = []

    def train(method, epochs, seed, limit):
        trained.append((method, epochs, seed))
        if len(trained) == 3:
            raise KeyboardInterrupt
        return 0.93 + epochs / 1000, 10.0 * epochs

    monkeypatch.setattr(accuracy, "LENGTHS", {"fast preset": (1, 2), "resnet18, plain loop": (2,)})
    monkeypatch.setattr(accuracy, "_engine", train)
    monkeypatch.setattr(accuracy, "_plain", train)
    options = Options(False, 2, 1, tmp_path / "runs" / "accuracy.jsonl", runs=2)
    with pytest.raises(KeyboardInterrupt):
        accuracy.measure(options)
    assert len(options.accuracy_file.read_text().splitlines()) == 2
    found = accuracy.measure(options)
    assert len(options.accuracy_file.read_text().splitlines()) == 6
    assert trained.count(("fast preset", 1, 1000)) == 1
    assert found["seconds_to"]["93% fast preset"] == 10.0
    assert found["seconds_to"]["94% fast preset"] is None
    before = len(trained)
    assert accuracy.measure(options) == found
    assert len(trained) == before
    part = dataclasses.replace(options, methods=("fast preset",), lengths=(2.0, 3.0), runs=1)
    found = accuracy.measure(part)
    assert trained[before:] == [("fast preset", 3.0, 1000)]
    assert found["seconds_to"] == {
        "93% fast preset": 20.0,
        "94% fast preset": None,
        "95% fast preset": None,
    }


def test_the_plain_loop_is_said_to_compute_in_fp32_whatever_pays_here(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import accuracy
    from benchmarking.timing import Options

    monkeypatch.setattr(accuracy, "choose_hardware", lambda: Hardware("cpu", "bf16"))
    for way in ("_engine", "_plain"):
        monkeypatch.setattr(accuracy, way, lambda *_: (0.94, 1.0))
    methods = ("fast preset", "resnet18, plain loop")
    options = Options(
        False, 2, 1, tmp_path / "accuracy.jsonl", methods=methods, lengths=(2.0,), runs=1
    )
    accuracy.measure(options)
    lines = [json.loads(line) for line in options.accuracy_file.read_text().splitlines()]
    assert {line["method"]: line["precision"] for line in lines} == dict(
        zip(methods, ("bf16", "fp32"), strict=True)
    )


def test_trainings_of_another_machine_are_repeated_on_this_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import accuracy
    from benchmarking.timing import Options

    monkeypatch.setattr(accuracy, "_engine", lambda *_: (0.94, 60.0))
    options = Options(
        False,
        2,
        1,
        tmp_path / "accuracy.jsonl",
        methods=("fast preset",),
        lengths=(2.0,),
        runs=1,
    )
    accuracy.measure(options)
    (line,) = map(json.loads, options.accuracy_file.read_text().splitlines())
    others = [
        line | {"seconds": 1.0, name: value}
        for name, value in (
            ("device", "cuda"),
            ("device_name", "another"),
            ("threads", 64),
            ("precision", "fp16"),
        )
    ]
    options.accuracy_file.write_text("".join(json.dumps(other) + "\n" for other in others))
    assert accuracy.measure(options)["seconds_to"]["94% fast preset"] == 60.0
    options.accuracy_file.write_text(json.dumps(line | {"commit": "earlier"}) + "\n")
    found = accuracy.measure(dataclasses.replace(options, lengths=(2.0, 3.0)))
    assert any("several commits" in note for note in found["notes"])


def test_the_seconds_of_the_engine_are_those_of_the_whole_training(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import accuracy

    def train(data, settings, **others):
        time.sleep(0.2)
        classifier = types.SimpleNamespace(predict=lambda images: np.zeros(len(images)))
        return types.SimpleNamespace(classifier=classifier, seconds=0.0)

    monkeypatch.setattr(accuracy, "train_model", train)
    _, seconds = accuracy._engine("fast preset", 1, 0, 160)
    assert seconds > 0.2  # and not only its steps


def test_the_time_in_which_workers_leave_is_not_counted(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import augmentation

    class Loader:
        def __init__(self, data, size, **others):
            self.data = data

        def __iter__(self):
            for _ in range(6):
                time.sleep(0.01)
                yield torch.zeros(len(self.data)), torch.zeros(len(self.data))
            time.sleep(3)

    monkeypatch.setattr(augmentation, "DataLoader", Loader)
    data = load_dataset("fashion-mnist", "test").subset(np.arange(100))
    # four batches of 100 in some 0.04 s
    assert augmentation.per_image(data, lambda image: image) > 400 / 3


def test_the_engine_trains_the_preset_that_a_method_names(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import accuracy

    asked = []

    class Asked(Exception):
        pass

    def train(data, settings, base=None, plan=None, **others):
        if base is None:
            return  # the warm-up
        asked.append((settings.model, settings.epochs, base.name, plan.keep))
        raise Asked

    monkeypatch.setattr(accuracy, "train_model", train)
    for method in ("fast preset", "medium-cpu preset", "strong-cpu preset", "baseline-cnn, engine"):
        assert method in accuracy.LENGTHS
        with pytest.raises(Asked):
            accuracy._engine(method, 3, 0, 160)
    assert asked == [
        ("fast-cnn", 3, "flip", 0.5),
        ("deep-cnn-48", 3, "flip+erasing-mix", 0.5),
        ("deep-cnn-48", 3, "flip+erasing-mix", 1.0),
        ("baseline-cnn", 3, "flip", 0.5),
    ]


def test_an_unknown_section_is_refused_by_name():
    assert "no section 'speed'" in run("--only", "speed", code=2).stderr
