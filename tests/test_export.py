import copy
import importlib.util
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fmnist_aug import export, load_classifier, load_dataset
from fmnist_aug.augment.policies import get_policy
from fmnist_aug.classifier import CheckpointHeader, Classifier
from fmnist_aug.cli import options
from fmnist_aug.cli.main import cli
from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.errors import CheckpointError, FmnistAugError, UsageError
from fmnist_aug.model_card import card_path, model_card
from fmnist_aug.models import create_model
from fmnist_aug.training import get_preset, train_model


@pytest.fixture(scope="module")
def trained():
    data = load_dataset("fashion-mnist", "train").subset(np.arange(600))
    return train_model(data, get_preset("fast").settings, base=get_policy("flip")).classifier


def test_formats_on_the_command_line_are_those_of_the_library():
    assert tuple(export.SUFFIXES) == options.EXPORT_FORMATS


@pytest.mark.parametrize("form", export.SUFFIXES)
def test_logits_are_those_of_pytorch_for_any_number_of_images(trained, form, tmp_path):
    path = tmp_path / f"model{export.SUFFIXES[form]}"
    assert set(trained.header.views) == {"identity", "flip", "shift"}
    assert export.export_classifier(trained, str(path), form) <= 1e-4
    read = export.onnx_logits if form == "onnx" else export.torch_export_logits
    images = load_dataset("fashion-mnist", "test").images
    for count in (1, 300):
        found = read(path, images[:count])
        assert np.abs(found - trained.predict_logits(images[:count])).max() < 1e-4


def test_large_logits_may_differ_in_proportion(trained, tmp_path):
    large = copy.deepcopy(trained)
    with torch.no_grad():
        large.model.head.weight *= 1000
    images = load_dataset("fashion-mnist", "test").images[:300]
    difference = export.export_classifier(large, tmp_path / "large.onnx", "onnx")
    assert difference <= 1e-4 * np.abs(large.predict_logits(images)).max()


def test_an_export_that_differs_is_not_kept(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "torch_export_logits", lambda file, images: np.ones((5, 10)))
    with pytest.raises(FmnistAugError, match="differ"):
        export.export_classifier(trained, tmp_path / "model.pt2", "torch-export")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_its_extra(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"fmnist-aug\[export\]"):
        export.export_classifier(trained, tmp_path / "model.onnx", "onnx")
    with pytest.raises(UsageError, match="onnx, torch-export"):
        export.export_classifier(trained, tmp_path / "model.tf", "tf")


def test_the_command_writes_the_graph_and_its_card(trained, tmp_path):
    trained.save(tmp_path / "model.safetensors")
    done = CliRunner().invoke(
        cli,
        ["export", str(tmp_path / "model.safetensors"), "--format", "torch-export", "--json"],
        catch_exceptions=False,
    )
    told = json.loads(done.stdout)
    assert told["file"] == str(tmp_path / "model.pt2")
    card = (tmp_path / "model.pt2.card.md").read_text()
    assert card_path(tmp_path / "model.pt2").read_text() == card
    assert trained.header.fingerprint in card
    assert "torch.export.load('model.pt2')" in card


def test_the_card_tells_how_to_read_the_file_whatever_it_is_called(trained, tmp_path):
    trained.save(tmp_path / "model.safetensors")
    command = ["export", str(tmp_path / "model.safetensors"), "--format", "torch-export"]
    command += ["--out", str(tmp_path / "model.bin")]
    CliRunner().invoke(cli, command, catch_exceptions=False)
    assert "torch.export.load('model.bin')" in (tmp_path / "model.bin.card.md").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["model.safetensors", "--out", "model.safetensors"],
        ["model.safetensors", "--out", "link.pt2"],
        ["link.pt2", "--out", "model.safetensors"],
        ["link.pt2"],  # whose name is the one that the export gets by itself
    ],
    ids=" ".join,
)
def test_the_checkpoint_itself_is_never_written_over(trained, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    trained.save("model.safetensors")
    (tmp_path / "link.pt2").symlink_to("model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    command = ["export", *arguments, "--format", "torch-export"]
    with pytest.raises(UsageError, match="is the checkpoint itself"):
        CliRunner().invoke(cli, command, catch_exceptions=False)
    assert (tmp_path / "link.pt2").read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 2


def test_a_number_in_the_name_is_no_suffix(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model-0.2", "model-0.5", "model-0.5.safetensors"):
        trained.save(name)
        done = CliRunner().invoke(cli, ["export", name, "--format", "torch-export", "--json"])
        assert json.loads(done.stdout)["file"] == f"{name.removesuffix('.safetensors')}.pt2"


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_folder_or_nothing_in_place_of_a_checkpoint_is_refused(name):
    with pytest.raises(CheckpointError, match="is a folder; name a file"):
        CliRunner().invoke(cli, ["export", name], catch_exceptions=False)


def test_code_on_the_card_of_a_checkpoint_runs(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained.save(tmp_path / "model.safetensors")
    card = model_card(trained, "model.safetensors", {"test accuracy": "80 %"})
    code = card.split("```python\n")[1].split("```")[0]
    names = {"images": load_dataset("fashion-mnist", "test").images[:3]}
    exec(code, names)
    expected = load_classifier("model.safetensors").predict_proba(names["images"])
    assert (names["probabilities"] == expected).all()
    assert "| test accuracy | 80 % |" in card


def test_names_on_the_card_are_words_only():
    names = ("<script>", "a|b\n# c")
    header = CheckpointHeader("fast-cnn", names, (8, 8), (0.0,), (1.0,), ("identity",), "x")
    classifier = Classifier(create_model("fast-cnn", 2, 1, (8, 8)), header)
    report = ConfusionReport(((3, 1), (0, 4)), names)
    card = model_card(classifier.with_confusions(report, "a probe"), "x.safetensors")
    assert "<script" not in card
    assert "\n# c" not in card
    assert "a\\|b \\# c: 1 images, 12.5% of both classes" in card
