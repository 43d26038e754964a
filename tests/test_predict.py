import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fmnist_aug.classifier import CheckpointHeader, Classifier, load_classifier
from fmnist_aug.cli.main import cli
from fmnist_aug.cli.predict_commands import newest_checkpoint
from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.data import find_pictures, load_dataset, read_pictures
from fmnist_aug.errors import CheckpointError, DataError, UsageError
from fmnist_aug.models import create_model
from fmnist_aug.prediction import often_mistaken, predict_pictures

NAMES = load_dataset("fashion-mnist", "test").class_names
COUNTS = np.eye(10, dtype=int) * 40
COUNTS[0, 6], COUNTS[2, 6], COUNTS[4, 6] = 8, 2, 1


def make_classifier(card="fashion-mnist", channels=1, names=NAMES):
    header = CheckpointHeader(
        "fast-cnn", names, (28, 28), (70.0,) * channels, (90.0,) * channels, ("identity",), card
    )
    return Classifier(create_model("fast-cnn", len(names), channels), header)


@pytest.fixture
def photos(tmp_path):
    """One real image as three photographs: dark, its negative in colour, and large."""
    garment = load_dataset("fashion-mnist", "test").images[0, ..., 0]
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    Image.fromarray(garment).save(folder / "dark.png")
    light = Image.fromarray(255 - garment)
    light.convert("RGB").save(folder / "light.png")
    light.resize((280, 280)).save(folder / "inner" / "large.jpg", quality=95)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"not a picture either")
    return folder


def test_pictures_are_found_once_and_in_a_fixed_order(photos):
    found = find_pictures([photos, photos / "dark.png"])
    assert [path.name for path in found] == ["dark.png", "large.jpg", "light.png"]
    (photos / "empty").mkdir()
    for paths, error in (
        (["nowhere"], UsageError),
        ([], UsageError),
        ([photos / "empty"], DataError),
    ):
        with pytest.raises(error):
            find_pictures(paths)


@pytest.mark.parametrize(
    ("dark_background", "invert", "expected"),
    [
        (True, None, [False, True, True]),
        (False, None, [False, False, False]),
        (True, False, [False, False, False]),
        (False, True, [True, True, True]),
    ],
)
def test_light_backgrounds_are_inverted_where_the_classifier_knows_dark_ones(
    photos, dark_background, invert, expected
):
    (read,) = read_pictures(
        find_pictures([photos]), (28, 28, 1), dark_background=dark_background, invert=invert
    )
    assert read.inverted.tolist() == expected
    if dark_background and invert is None:
        dark, large, light = read.images
        assert (dark == light).all()
        assert np.abs(dark.astype(int) - large).mean() < 12  # was enlarged, compressed, reduced


def test_colour_and_size_are_the_checkpoints(photos):
    (read,) = read_pictures(find_pictures([photos]), (16, 20, 3))
    assert read.images.shape == (3, 16, 20, 3)


def test_what_is_often_mistaken_is_counted_by_prediction_not_by_class():
    report = ConfusionReport(tuple(map(tuple, COUNTS.tolist())), NAMES)
    found = often_mistaken(report, NAMES.index("Shirt"))
    assert [(item.class_name, item.images) for item in found] == [
        ("T-shirt/top", 8),
        ("Pullover", 2),
    ]
    assert found[0].share == 8 / 51
    assert found[0].ci95[0] < 8 / 51 < found[0].ci95[1]
    assert often_mistaken(report, NAMES.index("T-shirt/top")) == ()
    nothing = ConfusionReport(((3, 0), (2, 0)), ("a", "b"))
    assert often_mistaken(nothing, 1) == ()


def test_predictions_hold_the_most_probable_classes_and_their_confusions(photos):
    report = ConfusionReport(tuple(map(tuple, COUNTS.tolist())), NAMES)
    classifier = make_classifier().with_confusions(report, "a probe")
    paths = find_pictures([photos])
    found = list(predict_pictures(classifier, paths, top=2))
    images = np.concatenate(
        [part.images for part in read_pictures(paths, (28, 28, 1), dark_background=True)]
    )
    probabilities = classifier.predict_proba(images)
    for item, row in zip(found, probabilities, strict=True):
        assert item.classes[0] == (NAMES[row.argmax()], pytest.approx(row.max()))
        assert len(item.classes) == 2
        assert item.confused_with == often_mistaken(report, int(row.argmax()))
    assert not any(item.confused_with for item in predict_pictures(make_classifier(), paths))


def test_only_the_packaged_sets_are_taken_for_dark(photos):
    own = make_classifier(card="fashion-mnist", names=("shirt", "shoe"))  # a folder of that name
    assert not any(item.inverted for item in predict_pictures(own, find_pictures([photos])))


def test_confusions_survive_the_checkpoint_file_and_must_fit(tmp_path):
    report = ConfusionReport(tuple(map(tuple, COUNTS.tolist())), NAMES)
    make_classifier().with_confusions(report, "a probe").save(tmp_path / "a.safetensors")
    loaded = load_classifier(tmp_path / "a.safetensors")
    assert loaded.header.confusion_report == report
    assert loaded.header.confusions_source == "a probe"
    with pytest.raises(DataError, match="classes"):
        make_classifier(names=("a", "b")).with_confusions(report, "a probe")
    damaged = make_classifier()
    object.__setattr__(damaged.header, "confusions", ((1, 2), (3, 4)))
    damaged.save(tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="matrix"):
        load_classifier(tmp_path / "b.safetensors")


def test_the_command_takes_the_newest_checkpoint_and_says_so(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="fmnist-aug train"):
        newest_checkpoint(tmp_path)
    report = ConfusionReport(tuple(map(tuple, COUNTS.tolist())), NAMES)
    make_classifier().save(tmp_path / "old.safetensors")
    new = tmp_path / "runs" / "x" / "checkpoints" / "targeted-0.safetensors"
    make_classifier().with_confusions(report, "a probe").save(new)
    done = CliRunner().invoke(cli, ["predict", "photos"], catch_exceptions=False)
    assert "targeted-0" in done.stderr
    assert "…" not in done.stdout.split("often confused with: ")[0]
    assert "often confused with" in done.stdout
    assert "inverted 2 of 3 pictures" in done.stdout
    done = CliRunner().invoke(
        cli,
        ["predict", "photos/dark.png", "--checkpoint", "old.safetensors", "--json"],
        catch_exceptions=False,
    )
    told = json.loads(done.stdout)
    assert told["confusions_source"] is None
    assert sum(told["predictions"][0]["classes"].values()) <= 1
    done = CliRunner().invoke(cli, ["predict", "photos", "--checkpoint", "old.safetensors"])
    assert "holds no confusions" in done.stdout
    with pytest.raises(DataError, match=r"notes\.txt"):
        CliRunner().invoke(cli, ["predict", "photos/notes.txt"], catch_exceptions=False)
