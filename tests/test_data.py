import errno
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fmnist_aug import load_dataset
from fmnist_aug.data import (
    DatasetCard,
    ImageDataset,
    find_dataset_files,
    held_out_split,
    stratified_slice,
    write_idx_folder,
)
from fmnist_aug.data.folders import choose_format, read_images
from fmnist_aug.data.idx import read_idx
from fmnist_aug.errors import DataError, RunFolderError, UsageError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(scope="module")
def twenty():
    return load_dataset("fashion-mnist", "train").subset(np.arange(20))


def labelled(labels):
    """Black images with these labels."""
    names = tuple(map(str, range(max(labels) + 1)))
    images = np.zeros((len(labels), 8, 8, 1), np.uint8)
    return ImageDataset(images, np.array(labels, np.int64), names, DatasetCard("x", "X"))


@pytest.fixture
def folder(twenty, tmp_path):
    """Twenty images as gz files, and as many for testing."""
    write_idx_folder(twenty, str(tmp_path))
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        (tmp_path / f"{path.name.replace('train', 't10k')}").write_bytes(path.read_bytes())
        path.unlink()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "title", "flip", "first"),
    [("fashion-mnist", "Fashion-MNIST", True, 9), ("mnist", "MNIST", False, 5)],
)
def test_the_packaged_sets_are_the_official_ones(name, title, flip, first):
    train, test = load_dataset(name, "train"), load_dataset(name, "test")
    assert (train.images.shape, test.images.shape) == ((60000, 28, 28, 1), (10000, 28, 28, 1))
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int64)
    assert (train.card.title, train.card.flip, train.labels[0]) == (title, flip, first)
    assert len({train.fingerprint(), test.fingerprint()}) == 2
    assert np.bincount(test.labels).min() > 800
    image, label = train[0]
    assert (image.shape, label) == ((28, 28, 1), first)


def test_a_folder_is_read_back_as_it_was_written(folder, twenty):
    found = load_dataset(folder, "train")
    assert (found.images == twenty.images).all()
    assert (found.labels == twenty.labels).all()
    assert found.card.flip is False, "an unknown data set is not flipped"
    assert found.class_names == tuple("0123456789")
    assert load_dataset(folder, "train", flip=True).card.flip is True


def test_nothing_is_written_beside_compressed_files_that_would_be_read_instead(folder, twenty):
    with pytest.raises(RunFolderError, match="would be read in place"):
        write_idx_folder(twenty.subset(np.arange(3)), folder)
    assert len(load_dataset(folder, "train")) == 20


def test_only_pictures_of_image_folders_are_brought_to_a_size(folder):
    assert load_dataset(folder, "train", image_size=28).image_size == (28, 28)
    with pytest.raises(UsageError, match="is no image folder, so its images stay 28 × 28"):
        load_dataset(folder, "train", image_size=32)


@pytest.mark.fault(3)
def test_more_classes_than_a_byte_tells_apart_are_not_written(tmp_path):
    with pytest.raises(DataError, match=r"X has 257 classes; .* at most 256"):
        write_idx_folder(labelled([0, 256]), tmp_path)
    assert not list(tmp_path.iterdir())
    write_idx_folder(labelled([0, 255]), tmp_path)
    assert load_dataset(tmp_path, "train").labels.tolist() == [0, 255]


def test_official_files_are_recognised_wherever_they_lie(tmp_path):
    for split in ("train", "test"):
        for path in find_dataset_files("mnist", split):
            (tmp_path / path.name).symlink_to(path)
    assert load_dataset(tmp_path, "train").card.name == "mnist"


@pytest.mark.fault(3)
def test_mnist_in_the_place_of_fashion_mnist_is_caught(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in find_dataset_files("mnist", "train"):
        (raw / path.name).symlink_to(path)
    with pytest.raises(DataError, match="not the official one"):
        load_dataset("fashion-mnist", "train", data_dir=tmp_path)
    # what the folder doesn't have comes from the package
    assert len(load_dataset("fashion-mnist", "test", data_dir=tmp_path)) == 10_000


@pytest.mark.fault(3)
def test_a_label_beyond_the_ten_of_an_official_set_is_refused(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = find_dataset_files("fashion-mnist", "train")
    (raw / images.name).symlink_to(images)
    content = bytearray(gzip.decompress(labels.read_bytes()))
    content[8] = 10
    (raw / LABELS).write_bytes(content)
    with pytest.raises(DataError, match=rf"{LABELS}: the content is not the official one \(SHA"):
        load_dataset("fashion-mnist", "train", data_dir=tmp_path)


def damaged(content, plain):
    """Ways in which a gz file of images is damaged in the wild, and what is said of each."""
    header = plain[:16]
    return {
        "empty": (b"", "begins with an empty file"),
        "cut": (content[: len(content) // 2], "cut or corrupt"),
        "web page": (b"<html>503</html>" * 50, "Not a gzipped file"),
        "flipped bit": (content[:200] + bytes([content[200] ^ 16]) + content[201:], "corrupt"),
        "two members": (content + content, "15680 values but the file holds more"),
        "trailing junk": (content + b"junk", "cut or corrupt"),
        "short": (gzip.compress(plain[:-1]), "20 × 28 × 28 = 15680 values .* holds only 15679"),
        "long": (gzip.compress(plain + b"\0"), "15680 values but the file holds more"),
        "wrong magic": (
            gzip.compress(b"\0\0\x08\x02" + plain[4:]),
            "begins with 00000802 instead of 00000803",
        ),
        "header only": (gzip.compress(header), "15680 values but the file holds only 0"),
        "cut header": (gzip.compress(plain[:9]), "header is cut after 9 bytes"),
        "no images": (gzip.compress(plain[:4] + bytes(4) + plain[8:16]), "asks for 0 × 28 × 28"),
        "huge header": (
            gzip.compress(plain[:4] + b"\xff" * 4 + plain[8:]),
            "asks for 4294967295 × 28 × 28",
        ),
        "empty sides": (gzip.compress(plain[:8] + bytes(8) + plain[16:]), "asks for 20 × 0 × 0"),
    }


DAMAGES = sorted(damaged(b"\0" * 300, b"\0" * 300))


@pytest.mark.fault(1, 3)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_named_with_what_was_expected_and_found(folder, damage):
    path = folder / f"{IMAGES}.gz"
    content = path.read_bytes()
    content, said = damaged(content, gzip.decompress(content))[damage]
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{IMAGES}.gz.*{said}"):
        load_dataset(folder, "train")


INFO = """
import sys
from fmnist_aug.cli.main import main

for folder in sys.argv[1:]:
    sys.argv[:] = ["fmnist-aug", "data", "info", "--dataset", folder]
    try:
        main()
    except SystemExit as ended:
        print(ended.code)
"""


@pytest.mark.fault(1, 3)
def test_damaged_files_end_a_command_with_one_line_and_exit_code_one(
    folder, tmp_path_factory, record_property
):
    content = (folder / f"{IMAGES}.gz").read_bytes()
    copies = []
    for damage, (bad, _) in damaged(content, gzip.decompress(content)).items():
        copies.append(shutil.copytree(folder, tmp_path_factory.mktemp("damaged") / damage))
        (copies[-1] / f"{IMAGES}.gz").write_bytes(bad)
    command = [sys.executable, "-c", INFO, *map(str, copies)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["1"] * len(DAMAGES)
    for line, copy in zip(done.stderr.splitlines(), copies, strict=True):
        assert line.startswith(f"Error: {copy / IMAGES}.gz: ")
    record_property("cases", len(copies))


@pytest.mark.fault(1)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_the_bytes_only_a_data_error_is_raised(folder, twenty, data):
    plain_path = folder / "plain" / IMAGES
    write_idx_folder(twenty, plain_path.parent)
    plain = bytearray(plain_path.read_bytes())
    packed = data.draw(st.booleans())
    content = bytearray(gzip.compress(bytes(plain), mtime=0)) if packed else plain
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content) - 1, 400)))
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = folder / ("x.gz" if packed else "x")
    path.write_bytes(content)
    try:
        values, _ = read_idx(path, 3)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert values.ndim == 3


@pytest.mark.fault(2)
def test_a_bomb_stops_at_the_promised_size(tmp_path):
    path = tmp_path / "bomb.gz"
    header = b"\0\0\x08\x03" + b"".join(size.to_bytes(4) for size in (10, 28, 28))
    path.write_bytes(gzip.compress(header + bytes(1 << 28)))
    tracemalloc.start()
    with pytest.raises(DataError, match="holds more"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


@pytest.mark.fault(3)
def test_swapped_missing_and_contradictory_files_are_told_apart(folder, twenty):
    images, labels = (folder / f"{name}.gz" for name in (IMAGES, LABELS))
    kept = images.read_bytes(), labels.read_bytes()
    images.write_bytes(kept[1])
    with pytest.raises(DataError, match="swapped"):
        load_dataset(folder, "train")
    images.write_bytes(kept[0])
    labels.unlink()
    with pytest.raises(DataError, match="images and labels are both needed"):
        load_dataset(folder, "train")
    labels.write_bytes(kept[1])
    write_idx_folder(twenty.subset(np.arange(19)), folder / "other")
    labels.write_bytes(gzip.compress((folder / "other" / LABELS).read_bytes()))
    with pytest.raises(DataError, match=r"20 images .* 19 labels"):
        load_dataset(folder, "train")
    images.unlink()
    labels.unlink()
    with pytest.raises(DataError, match="four IDX files"):
        load_dataset(folder, "train")


@pytest.mark.fault(3)
def test_a_test_label_that_no_training_image_has_is_refused(folder):
    path = folder / LABELS.replace("train", "t10k")
    content = bytearray(path.read_bytes())
    content[8] = 77
    path.write_bytes(content)
    with pytest.raises(DataError, match="label 77"):
        load_dataset(folder, "test")


def test_unknown_names_and_folders_that_are_no_data_set(tmp_path):
    with pytest.raises(UsageError, match="fashion-mnist, mnist"):
        load_dataset("fashion")
    with pytest.raises(DataError, match="is no data set"):
        load_dataset(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        load_dataset(tmp_path / "file")
    with pytest.raises(UsageError, match="not a folder"):
        load_dataset("mnist", data_dir=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="unknown split"):
        load_dataset("mnist", "validation")


def save(folder, name, mode="RGB", size=(20, 20), colour=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    value = colour if colour is not None else 200 if mode in ("L", "I;16", "1") else (200, 0, 0)
    Image.new(mode, size, value).save(path)
    return path


@pytest.fixture
def pictures(tmp_path):
    for split in ("train", "test"):
        for name in ("naïve café", "zwei"):
            save(tmp_path, f"{split}/{name}/a.png")
    return tmp_path


def test_pictures_of_one_small_size_are_taken_as_they_are(pictures):
    found = load_dataset(pictures, "train")
    assert found.images.shape == (2, 20, 20, 3)
    assert found.class_names == ("naïve café", "zwei")
    assert (found.images == (200, 0, 0)).all()


def test_unlike_sizes_become_squares_without_cutting_or_stretching(pictures):
    save(pictures, "train/zwei/wide.jpg", size=(200, 50), colour=(0, 100, 0))
    found = load_dataset(pictures, "train")
    assert found.images.shape == (3, 20, 20, 3)
    wide = found.images[2].astype(int)
    assert abs(wide - (0, 100, 0)).max() < 6, "padded with its own border colour"
    assert load_dataset(pictures, "test").images.shape[1:] == (20, 20, 3)
    assert load_dataset(pictures, "test", image_size=32).images.shape[1:] == (32, 32, 3)


def test_linked_folders_are_read_once_and_loops_end(pictures, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    save(elsewhere, "b.png")
    save(elsewhere, ".hidden/c.png")
    folder = pictures / "train" / "zwei"
    (folder / "more").symlink_to(elsewhere, target_is_directory=True)
    (folder / "once more").symlink_to(elsewhere, target_is_directory=True)
    (folder / "up").symlink_to(folder, target_is_directory=True)
    (pictures / "train" / "linked").symlink_to(elsewhere, target_is_directory=True)
    found = load_dataset(pictures, "train")
    counts = dict(zip(found.class_names, np.bincount(found.labels).tolist(), strict=True))
    assert counts == {"naïve café": 1, "linked": 1, "zwei": 2}


@pytest.mark.parametrize("denied", ["train/zwei", "train/zwei/below"])
def test_a_folder_that_cannot_be_read_is_not_passed_over(pictures, denied, monkeypatch):
    (pictures / "train" / "zwei" / "below").mkdir()

    def scan(path):
        if Path(path) == pictures / denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path)

    really = os.scandir
    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(DataError, match=rf"{denied}: cannot be read \(Permission denied\)"):
        load_dataset(pictures, "train")


def test_large_pictures_are_reduced(tmp_path):
    for split in ("train", "test"):
        for name in "ab":
            save(tmp_path, f"{split}/{name}/1.png", "L", (300, 200))
    assert load_dataset(tmp_path, "train").images.shape == (2, 64, 64, 1)


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "P", "LA", "RGBA", "CMYK", "RGB"])
def test_any_mode_of_picture_is_read(tmp_path, mode):
    for split in ("train", "test"):
        for name in "ab":
            path = tmp_path / split / name / ("1.jpg" if mode == "CMYK" else "1.png")
            path.parent.mkdir(parents=True)
            picture = Image.new("RGB", (12, 12), (128, 128, 128))
            if mode == "I;16":
                picture = Image.fromarray(np.full((12, 12), 32896, np.uint16))
            else:
                picture = picture.quantize(4) if mode == "P" else picture.convert(mode)
            picture.save(path)
    found = load_dataset(tmp_path, "train").images
    assert found.shape[3] == (1 if mode in ("L", "1", "I;16", "LA") else 3)
    if mode != "1":
        assert abs(found.astype(int) - 128).max() <= 4


@pytest.mark.parametrize(
    ("name", "mode", "kind", "values", "expected"),
    [
        ("a.tif", "I;16B", ">u2", [0, 257, 32896], [0, 1, 128]),
        ("a.pgm", "I;16", "<u2", [0, 200, 128], [0, 0, 0]),
        ("a.tif", "F", "f4", [0, 0.25, 0.5], [0, 63, 127]),
        ("a.tif", "F", "f4", [0, 0.5, 1.0001], [0, 127, 255]),
        ("a.tif", "F", "f4", [0, 1.5, 200], [0, 1, 200]),
        ("a.tif", "F", "f4", [0, 257, 32896], [0, 1, 128]),
        ("a.tif", "I", "i4", [0, 1, 1], [0, 1, 1]),
        ("a.tif", "I", "i4", [0, 50_000, 100_000], [0, 127, 255]),
    ],
)
def test_the_white_of_deep_greys(tmp_path, name, mode, kind, values, expected):
    path = tmp_path / name
    Image.frombytes(mode, (3, 1), np.array(values, kind).tobytes()).save(path)
    with Image.open(path) as saved:
        assert saved.mode == ("I" if name == "a.pgm" else mode)
    assert choose_format([path]) == (1, 3, 1)
    assert read_images([path], (1, 3, 1)).ravel().tolist() == expected


@pytest.mark.fault(1)
@pytest.mark.parametrize("value", [-1, np.nan, np.inf])
def test_pictures_whose_black_or_white_is_unknown_are_named(tmp_path, value):
    path = tmp_path / "x.tif"
    Image.fromarray(np.array([[0.5, value]], np.float32)).save(path)
    with pytest.raises(DataError, match=r"x\.tif: holds values that are negative or not finite"):
        read_images([path], (1, 2, 1))


@pytest.mark.fault(1)
def test_bad_pictures_and_unknown_classes_are_named(pictures):
    text = pictures / "train" / "zwei" / "text.png"
    text.write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png: is not a picture"):
        load_dataset(pictures, "train")
    text.unlink()
    cut = pictures / "train" / "zwei" / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"cut\.jpg: cannot be decoded"):
        load_dataset(pictures, "train")
    cut.unlink()
    save(pictures, "test/drei/1.png")
    with pytest.raises(DataError, match="class 'drei' is not among the training classes"):
        load_dataset(pictures, "test")


def test_splits_are_stratified_repeatable_and_disjoint(twenty):
    whole = stratified_slice(load_dataset("fashion-mnist", "train"), 1000, random_state=1)
    assert np.bincount(whole.labels).tolist() == [100] * 10
    fit, held = held_out_split(whole, 0.1, 3)
    assert sorted([*fit, *held]) == list(range(1000))
    assert np.bincount(whole.labels[held]).tolist() == [10] * 10
    assert (held == held_out_split(whole, 0.1, 3)[1]).all()
    assert (held != held_out_split(whole, 0.1, 4)[1]).any()


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ((100, 50, 1), 31, (20, 10, 1)),  # one image alone
        ((300, 200, 5), 503, (299, 199, 5)),  # fewer left out than classes
        ((2, 2, 2, 2), 3, None),  # fewer asked for than classes
        ((90, 1, 1, 1, 1), 6, (2, 1, 1, 1, 1)),
        ((1000, 2), 10, (8, 2)),  # in proportion it would be none, and one can't be split
        ((4000, 4000, 5), 1000, (499, 499, 2)),
    ],
)
def test_slices_have_their_size_and_every_class(counts, size, expected):
    data = labelled(np.repeat(np.arange(len(counts)), counts))
    places = np.arange(len(data))
    data.images[:, 0, :2, 0] = np.stack([places // 256, places % 256], axis=1)  # all different
    chosen = stratified_slice(data, size, random_state=1)
    found = np.bincount(chosen.labels, minlength=len(counts))
    assert (found.sum(), len({image.tobytes() for image in chosen.images})) == (size, size)
    assert found.max() == 1 if expected is None else tuple(found) == expected
    assert chosen.fingerprint() == stratified_slice(data, size, random_state=1).fingerprint()
    assert chosen.fingerprint() != stratified_slice(data, size, random_state=2).fingerprint()


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ((900, 90, 4), 0.1, (90, 9, 1)),
        ((1000, 2, 0, 2, 3), 0.1, (100, 1, 0, 1, 1)),
        ((1000, 2, 0, 2, 3), 0.8, (800, 1, 0, 1, 2)),
    ],
)
def test_small_classes_are_both_held_out_and_trained_on(counts, share, expected):
    data = labelled(np.repeat(np.arange(len(counts)), counts))
    fit, held = held_out_split(data, share, 3)
    assert np.bincount(data.labels[held], minlength=len(counts)).tolist() == list(expected)
    assert sorted([*fit, *held]) == list(range(len(data)))
    assert all((np.diff(part) > 0).all() for part in (fit, held))
    assert (held == held_out_split(data, share, 3)[1]).all()
    assert set(held) != set(held_out_split(data, share, 4)[1])


@pytest.mark.parametrize("share", [-0.5, 0, 1, 1.5, np.nan])
def test_shares_and_sizes_that_make_no_sense_are_refused(twenty, share):
    with pytest.raises(UsageError, match=f"must lie between 0 and 1, not {share}"):
        held_out_split(twenty, share)
    with pytest.raises(UsageError, match="choose at least 1"):
        stratified_slice(twenty, -3)


@pytest.mark.fault(5)
def test_splits_refuse_test_images_and_lonely_images():
    with pytest.raises(DataError, match="test split"):
        held_out_split(load_dataset("mnist", "test"))
    with pytest.raises(DataError, match="class '1' has 1 training image, too few to split"):
        held_out_split(labelled([0, 0, 0, 1]))


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    ("images", "labels", "names", "said"),
    [
        (np.zeros((2, 8, 8), np.uint8), [0, 1], "ab", "images must be"),
        (np.zeros((2, 8, 8, 1)), [0, 1], "ab", "images must be"),
        (np.zeros((2, 8, 8, 1), np.uint8), [0], "ab", "labels must be"),
        (np.zeros((2, 8, 8, 1), np.uint8), [0, 2], "ab", "labels must lie"),
        (np.zeros((2, 8, 8, 1), np.uint8), [0, 1], "aa", "all be different"),
        (np.zeros((0, 8, 8, 1), np.uint8), [], "ab", "no images"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(images, labels, names, said):
    with pytest.raises(DataError, match=said):
        ImageDataset(images, np.array(labels, np.int64), tuple(names), DatasetCard("x", "X"))


def test_the_fingerprint_knows_pixels_labels_and_names(twenty):
    def with_(**changes):
        parts = {"images": twenty.images, "labels": twenty.labels, "names": twenty.class_names}
        parts.update(changes)
        return ImageDataset(
            parts["images"], parts["labels"], parts["names"], twenty.card
        ).fingerprint()

    pixels, labels = twenty.images.copy(), twenty.labels.copy()
    pixels[0, 0, 0, 0] += 1
    labels[0] = (labels[0] + 1) % 10
    names = ("other", *twenty.class_names[1:])
    found = {with_(), with_(images=pixels), with_(labels=labels), with_(names=names)}
    assert len(found) == 4
    assert all(len(bytes.fromhex(one)) == hashlib.sha256().digest_size for one in found)
    assert with_() == twenty.fingerprint()


@pytest.mark.parametrize("own", ["train", "test"])
def test_half_of_a_named_set_is_not_that_set(tmp_path, own):
    for split in ("train", "test"):
        data = load_dataset("fashion-mnist", split)
        write_idx_folder(data.subset(np.arange(400)) if split == own else data, tmp_path)
    splits = [load_dataset(tmp_path, split) for split in ("train", "test")]
    assert {data.class_names for data in splits} == {tuple("0123456789")}
    assert len({data.card for data in splits}) == 1
    assert not splits[0].card.flip
    write_idx_folder(load_dataset("fashion-mnist", own), tmp_path)
    assert load_dataset(tmp_path, own).card == load_dataset("fashion-mnist").card


def test_names_in_other_letters_are_told_apart(tmp_path, twenty):
    names = []
    for folder in ("Кошки", "собаки", "Cats"):
        write_idx_folder(twenty, tmp_path / folder)
        names.append(load_dataset(tmp_path / folder, twenty.split).card.name)
    assert names == ["кошки", "собаки", "cats"]
