import dataclasses
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fmnist_aug.augment import get_policy
from fmnist_aug.cli.main import cli
from fmnist_aug.comparison.samples import policy_samples
from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.data import load_dataset, write_idx_folder
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.report.sheets import SheetRow, confusion_rows, image_sheet


def test_samples_are_real_images_and_what_the_policy_makes_of_them():
    train = load_dataset("fashion-mnist", "train").subset(np.arange(300))
    policies = [get_policy("none"), get_policy("photometric")]
    found = policy_samples(train, policies, [0, 6], images_per_class=2, copies=3, seed=1)
    assert [policy.name for policy, _ in found] == ["none", "photometric"]
    for policy, stacks in found:
        assert [label for label, _ in stacks] == [0, 0, 6, 6]
        for label, images in stacks:
            assert images.shape == (4, 28, 28, 1)
            original = (train.images == images[0]).all(axis=(1, 2, 3)).nonzero()[0]
            assert train.labels[original].tolist() == [label]
            changed = (images[1:] != images[0]).any(axis=(1, 2, 3))
            assert changed.all() == (policy.name == "photometric")
    again = policy_samples(train, policies, [0, 6], images_per_class=2, copies=3, seed=1)
    other = policy_samples(train, policies, [0, 6], images_per_class=2, copies=3, seed=2)
    assert all((a[1] == b[1]).all() for x, y in zip(found, again, strict=True)
               for a, b in zip(x[1], y[1], strict=True))  # fmt: skip
    assert (found[0][1][0][1] != other[0][1][0][1]).any()


def test_rows_of_confused_images_are_those_behind_the_counts_surest_first():
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1).repeat(8, axis=1).repeat(8, axis=2)
    labels = np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.array(
        [[0.4, 0.6, 0], [0.1, 0.9, 0], [0.9, 0.1, 0], [0.8, 0.2, 0], [0, 1, 0], [0, 0, 1]],
        np.float32,
    )
    report = ConfusionReport.from_predictions(labels, probabilities, ["a", "b", "c"])
    first, second = confusion_rows(report, images, labels, probabilities)
    assert first.images[:, 0, 0, 0].tolist() == [1, 0]
    assert first.caption == "a taken for b: 2 images"
    assert first.notes == ("90%", "60%")
    assert second.images[:, 0, 0, 0].tolist() == [3]
    (shown, _) = confusion_rows(report, images, labels, probabilities, columns=1)
    assert "the 1 surest mistakes" in shown.caption


def test_a_sheet_grows_with_its_rows_and_takes_grey_and_colour():
    grey = SheetRow(np.zeros((2, 8, 8, 1), np.uint8), "$x^2$ <b>", ("a", "b"), first_apart=True)
    colour = SheetRow(np.full((12, 8, 10, 3), 200, np.uint8))
    one, two = (
        Image.open(io.BytesIO(image_sheet("title", rows))) for rows in ([grey], [grey, colour])
    )
    assert two.height > one.height
    assert two.width > one.width
    with pytest.raises(DataError):
        image_sheet("title", [])


def test_preview_writes_a_picture(tmp_path):
    out = tmp_path / "sheet.png"
    arguments = ["preview", "--dataset", "mnist", "--class", "3", "--class", "8", "--out", str(out)]
    done = CliRunner().invoke(
        cli, [*arguments, "--policy", "geometric", "--json"], catch_exceptions=False
    )
    told = json.loads(done.stdout)
    assert told["policies"] == ["geometric"]
    assert told["classes"] == ["3", "8"]
    Image.open(out).verify()
    with pytest.raises(UsageError, match="Hat"):
        CliRunner().invoke(cli, ["preview", "--class", "Hat"], catch_exceptions=False)


def test_confusions_writes_the_images_behind_the_pairs(small, tmp_path):
    out = tmp_path / "confused.png"
    arguments = ["confusions", "--dataset", str(small), "--preset", "smoke", "--epochs", "1"]
    done = CliRunner().invoke(
        cli, [*arguments, "--device", "cpu", "--quiet", "--out", str(out)], catch_exceptions=False
    )
    assert "images:" in done.stdout
    Image.open(out).verify()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_confusions_without_mistakes_are_told_and_no_sheet_is_written(form, tmp_path):
    for split in ("train", "test"):
        data = load_dataset("mnist", split).subset(np.arange(200))
        labels = np.arange(200) % 2
        images = np.full_like(data.images, 255) * labels[:, None, None, None].astype(np.uint8)
        easy = dataclasses.replace(data, images=images, labels=labels)
        write_idx_folder(easy, tmp_path)
    out = tmp_path / "confused.png"
    arguments = ["confusions", "--dataset", str(tmp_path), "--preset", "smoke", "--epochs", "4"]
    arguments += ["--device", "cpu", "--quiet", "--out", str(out), *form]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    if form:
        assert json.loads(done.stdout)["errors"] == 0
        assert "no mistakes" in done.stderr
    else:
        assert "0 errors" in done.stdout
        assert "no mistakes" in done.stdout
    assert not out.exists()
