import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fmnist_aug import create_model, load_classifier, load_dataset
from fmnist_aug.classifier import CheckpointHeader, Classifier
from fmnist_aug.cli.main import cli
from fmnist_aug.comparison.ensemble import predict_together
from fmnist_aug.errors import CheckpointError, DataError

RUNS = [("uniform", 0), ("uniform", 1), ("targeted", 0), ("targeted", 1)]


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """The checkpoints of a comparison; untrained, which is all the same to an ensemble."""
    out = tmp_path_factory.mktemp("finished")
    names = load_dataset(small, "test").class_names
    header = CheckpointHeader("fast-cnn", names, (28, 28), (70.0,), (90.0,), ("identity",))
    for number, (arm, seed) in enumerate(RUNS):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            classifier = Classifier(create_model("fast-cnn"), header)
        classifier.save(out / "checkpoints" / f"{arm}-{seed}.safetensors")
    (out / "results.json").write_text("{}")
    return out


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "folder")


def run(*arguments):
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])


def test_an_ensemble_averages_the_probabilities_of_its_members(finished, small):
    test = load_dataset(small, "test")
    found = predict_together(finished, test)
    paths = sorted((finished / "checkpoints").iterdir())
    assert sorted(member.path for member in found.members) == paths
    expected = [load_classifier(path).predict_proba(test.images) for path in paths]
    assert np.allclose(found.probabilities, np.mean(expected, axis=0), atol=1e-6)
    for member in found.members:
        predicted = load_classifier(member.path).predict(test.images)
        assert member.accuracy == (predicted == test.labels).mean()
    assert [(member.arm, member.seed) for member in found.members] == RUNS


def test_the_command_prints_members_their_mean_and_the_ensemble(finished, small):
    done = run("--ensemble", finished, "--dataset", small, "--json")
    value = json.loads(done.stdout)
    assert list(value["members"]) == ["uniform-0", "uniform-1", "targeted-0", "targeted-1"]
    assert value["members_mean"] == pytest.approx(np.mean(list(value["members"].values())))
    assert value["accuracy"] == pytest.approx(1 - value["errors"] / value["images"])
    one = run("--ensemble", finished, "--arm", "targeted", "--dataset", small)
    assert "targeted-1" in one.stdout
    assert "uniform-0" not in one.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("a.safetensors", "--ensemble", "b"), ("a.safetensors", "--arm", "targeted")]
)
def test_exactly_one_of_checkpoint_and_ensemble_is_wanted(arguments):
    assert run(*arguments).exit_code == 2


def test_folders_without_checkpoints_are_refused(finished, small, tmp_path):
    test = load_dataset(small, "test")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mine.safetensors").write_bytes(b"not of a comparison")
    for path in (tmp_path, tmp_path / "nowhere", finished / "results.json"):
        with pytest.raises(CheckpointError, match="holds no checkpoints"):
            predict_together(path, test)
    with pytest.raises(CheckpointError, match="it has uniform, targeted"):
        predict_together(finished, test, "baseline")


def test_a_damaged_member_is_named(folder, small):
    path = folder / "checkpoints" / "targeted-1.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"targeted-1\.safetensors"):
        predict_together(folder, load_dataset(small, "test"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": tuple("abcdefghij")}, "other classes"),
        ({"image_size": (20, 20)}, "another size"),
        ({"fingerprint": "0" * 64}, "other training images"),
    ],
)
def test_members_that_are_unlike_each_other_are_refused(folder, small, change, said):
    path = folder / "checkpoints" / "targeted-1.safetensors"
    classifier = load_classifier(path)
    classifier.header = dataclasses.replace(classifier.header, confusions=(), **change)
    classifier.save(path)
    with pytest.raises(CheckpointError, match=said):
        predict_together(folder, load_dataset(small, "test"))


def test_images_of_other_classes_or_sizes_are_refused(finished, small):
    test = load_dataset(small, "test")
    others = dataclasses.replace(test, class_names=tuple("abcdefghij"))
    with pytest.raises(DataError, match="choose its own --dataset"):
        predict_together(finished, others)
    smaller = dataclasses.replace(test, images=np.ascontiguousarray(test.images[:, :20, :20]))
    with pytest.raises(DataError, match="28, 28, 1"):
        predict_together(finished, smaller)
    with pytest.raises(DataError, match=r"safetensors takes images .* --image-size"):
        predict_together(finished, smaller)
