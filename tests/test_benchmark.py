import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

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
