"""Image folders as people have them: without splits, with capitals, with what phones leave."""

import numpy as np
import pytest
from PIL import Image

from fmnist_aug.data import find_pictures, load_dataset
from fmnist_aug.errors import DataError


def save(folder, name, colour=(200, 0, 0)):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), colour).save(path)
    return path


@pytest.fixture
def undivided(tmp_path):
    """Two classes in nested folders, as many shades as pictures, and one picture alone."""
    for number in range(20):
        save(tmp_path, f"Äpfel rot/{number % 3}/Foto {number} ü.JPG", (200, 10 * number, 0))
        save(tmp_path, f"Birnen/{number}.png", (0, 10 * number, 200))
    save(tmp_path, "Einzelstück/eins.webp")
    return tmp_path


def test_a_folder_without_splits_is_divided_by_class_and_says_so(undivided):
    train, test = (load_dataset(undivided, split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("Birnen", "Einzelstück", "Äpfel rot")
    assert np.bincount(train.labels).tolist() == [16, 1, 16]
    assert np.bincount(test.labels, minlength=3).tolist() == [4, 0, 4]
    assert "(split 4:1 by chance)" in train.card.title
    assert train.card.name == test.card.name == load_dataset(undivided, "train").card.name
    again = load_dataset(undivided, "test")
    assert again.fingerprint() == test.fingerprint()
    both = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in both for image in test.images[test.labels == 0])


def test_another_class_leaves_the_division_of_the_others_alone(undivided):
    before = load_dataset(undivided, "test")
    for number in range(5):
        save(undivided, f"A new one/{number}.png")
    after = load_dataset(undivided, "test")
    assert (after.images[after.labels == 1] == before.images[before.labels == 0]).all()


def test_what_a_comparison_left_in_the_folder_is_no_class(undivided):
    save(undivided, "runs/x-smoke/figures/accuracy.png")
    (undivided / "runs/x-smoke/config.json").write_text("{}")
    save(undivided, "Birnen/.thumbnails/1.png")
    (undivided / "papers").mkdir()
    (undivided / "papers" / "notes.txt").write_text("words")
    found = load_dataset(undivided, "train")
    assert found.class_names == ("Birnen", "Einzelstück", "Äpfel rot")
    assert np.bincount(found.labels).tolist() == [16, 1, 16]


def test_capitals_in_the_names_of_the_splits_do_no_harm(tmp_path):
    for split in ("Train", "TEST"):
        for name in "ab":
            save(tmp_path, f"{split}/{name}/1.png")
    assert len(load_dataset(tmp_path, "test")) == len(load_dataset(tmp_path, "train")) == 2
    assert load_dataset(tmp_path, "train").card.title == tmp_path.name


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train", "val"), r"no folder 'test', but 'train', 'val'; .*rename"),
        (("training", "testing"), r"no folder 'train', but 'testing', 'training'"),
        (("validation",), r"no folder 'train', but 'validation'"),
    ],
)
def test_splits_of_other_names_are_not_guessed(tmp_path, folders, said):
    for split in folders:
        save(tmp_path, f"{split}/a/1.png")
    with pytest.raises(DataError, match=said):
        load_dataset(tmp_path, "test")


def test_pictures_without_class_folders_are_counted(tmp_path):
    for number in range(3):
        save(tmp_path, f"{number}.jpg")
    with pytest.raises(DataError, match=r"no data set \(it holds 3 pictures, but no class"):
        load_dataset(tmp_path, "train")


def test_single_pictures_leave_nothing_to_test_on(tmp_path):
    for name in "ab":
        save(tmp_path, f"{name}/1.jpg")
    with pytest.raises(DataError, match="no class has 2 pictures"):
        load_dataset(tmp_path, "train")


def test_pictures_of_kinds_that_are_not_read_are_never_passed_over(undivided):
    for number in range(5):
        (undivided / "Birnen" / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    said = r"IMG_0\.HEIC, .*IMG_2\.HEIC and 2 more: \.HEIC can't be read; convert"
    with pytest.raises(DataError, match=said):
        load_dataset(undivided, "train")
    with pytest.raises(DataError, match=said):
        find_pictures([undivided])


@pytest.mark.parametrize("suffix", [".TGA", ".dng"])
def test_so_are_those_of_scanners_and_cameras(undivided, suffix):
    (undivided / "Birnen" / f"IMG{suffix}").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=rf"IMG{suffix}: {suffix} can't be read; convert"):
        load_dataset(undivided, "train")


@pytest.mark.parametrize(
    ("suffix", "form", "mode"),
    [
        (".jfif", "JPEG", "RGB"),
        (".JPE", "JPEG", "L"),
        (".pgm", "PPM", "L"),
        (".pbm", "PPM", "1"),
        (".pnm", "PPM", "RGB"),
    ],
)
def test_less_common_names_of_kinds_that_are_read(tmp_path, suffix, form, mode):
    for name, number in (("a", 1), ("a", 2), ("b", 1)):
        path = tmp_path / name / f"{number}{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.new(mode, (20, 20), "white").save(path, form)
    found = load_dataset(tmp_path, "train")
    assert found.labels.tolist() == [0, 1]
    assert found.images.min() >= 254


def test_a_class_that_only_the_test_split_has_pictures_of_is_named(tmp_path):
    for name in ("train/a/1.png", "test/a/1.png", "test/b/1.png"):
        save(tmp_path, name)
    (tmp_path / "train/b").mkdir()
    with pytest.raises(DataError, match=r"b holds no pictures, but the test split has some"):
        load_dataset(tmp_path, "test")
    (tmp_path / "test/b/1.png").unlink()
    assert load_dataset(tmp_path, "test").class_names == ("a", "b")


def test_damaged_pictures_are_named_together(undivided):
    for number in range(5):
        path = undivided / "Birnen" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"0\.png: .*; the same for .*2\.png, .*4\.png"):
        load_dataset(undivided, "train")
