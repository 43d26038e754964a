"""Every byte of every file that is read: damage is found, or it changes nothing."""

import contextlib
import gzip
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from fmnist_aug import load_classifier, load_dataset
from fmnist_aug.classifier import read_tensors, write_tensors
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.data import write_idx_folder
from fmnist_aug.data.folders import choose_format, read_images
from fmnist_aug.data.idx import read_idx
from fmnist_aug.errors import CheckpointError, DataError, RunFolderError

pytestmark = pytest.mark.fault(1)

FIGURES = {"arm": "targeted", "seed": 3, "test_accuracy": 0.875, "train_seconds": 1.5}
PROBE = {"held_out_images": 30, "accuracy": 0.9, "seconds": 2.0}


def damages(content, places=None):
    """One byte changed in three ways, or the end missing, at each of these places or at all."""
    for place in range(len(content)) if places is None else places:
        for value in (content[place] ^ 1, content[place] ^ 0x80, ord("0")):
            if value != content[place]:
                yield content[:place] + bytes([value]) + content[place + 1 :]
        yield content[:place]


def overwrite(path, content):
    """Write in place: some file systems wait for the disk if a file was emptied before."""
    with path.open("r+b") as stream:
        stream.write(content)
        stream.truncate()


def sweep(path, read, error, places=None):
    """Read ``path`` after each damage; return how many damages there were and were refused."""
    content, expected = path.read_bytes(), read()
    cases = refused = 0
    for damaged in damages(content, places):
        overwrite(path, damaged)
        cases += 1
        try:
            assert read() == expected, f"damage went unnoticed: {damaged[:200]!r}"
        except error as found:
            refused += 1
            assert str(path) in str(found)  # noqa: PT017
    path.write_bytes(content)
    assert read() == expected
    return cases, refused


@pytest.fixture
def folder(tmp_path, plan, classifier, logits):
    made = ComparisonFolder(tmp_path)
    made.claim({"dataset": "mnist", "runs": 3}, resume=True)
    made.save_plan(plan, PROBE)
    made.save_run(FIGURES, classifier.to_bytes(), logits, np.array([0, 1, 2, 0, 1, 2]))
    made.save_results({"schema": 1, "arms": {"targeted": {"mean": 0.875}}, "plan": plan.to_dict()})
    return made


def test_the_plan(folder, record_property):
    cases, refused = sweep(folder.plan, folder.load_plan, RunFolderError)
    assert refused > 0.9 * cases
    record_property("cases", cases)


def test_the_record_of_a_run(folder, record_property):
    path = folder.record("targeted", 3)
    cases, _ = sweep(path, lambda: folder.load_run("targeted", 3), RunFolderError)
    record_property("cases", cases)


def test_the_results(folder, record_property):
    cases, _ = sweep(folder.results, folder.load_results, RunFolderError)
    more, _ = sweep(folder.checksum, folder.load_results, RunFolderError)
    record_property("cases", cases + more)


def test_the_predictions(folder, record_property):
    def read():
        return [values.tolist() for values in folder.load_logits("targeted", 3)]

    cases, _ = sweep(folder.predictions("targeted", 3), read, RunFolderError)
    record_property("cases", cases)


def test_the_configuration(folder, record_property):
    content = folder.config.read_bytes()
    cases = 0
    for damaged in damages(content):
        overwrite(folder.config, damaged)
        if damaged.strip() != content.strip():
            cases += 1
            with pytest.raises(RunFolderError, match="choose another --out"):
                folder.claim(json.loads(content), resume=True)
    record_property("cases", cases)


@pytest.mark.fault(13)
def test_tensors(tmp_path, record_property):
    path = tmp_path / "state.safetensors"
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)}
    write_tensors(path, tensors, "training-state", {"step": 3, "identity": [1, "x"]})

    def read():
        found, kind, header = read_tensors(path)
        return {name: value.tolist() for name, value in found.items()}, kind, header

    cases, _ = sweep(path, read, CheckpointError)
    record_property("cases", cases)


@pytest.mark.fault(13)
def test_the_header_and_some_weights_of_a_checkpoint(tmp_path, classifier, record_property):
    path = tmp_path / "model.safetensors"
    classifier.save(path)

    def read():
        return asdict(load_classifier(path).header)

    content = path.read_bytes()
    weights = 8 + int.from_bytes(content[:8], "little")
    places = [*range(0, weights, 5), *range(weights, len(content), 50_021)]
    cases, _ = sweep(path, read, CheckpointError, places)
    record_property("cases", cases)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_idx_files(tmp_path, packed, record_property):
    data = load_dataset("fashion-mnist", "train")
    write_idx_folder(data.subset(np.arange(20)), tmp_path)
    cases = 0
    for path, dimensions in zip(sorted(tmp_path.iterdir()), (3, 1), strict=True):
        content = path.read_bytes()
        if packed:
            path = path.with_name(f"{path.name}.gz")
            path.write_bytes(gzip.compress(content, mtime=0))
            cases += sweep(path, lambda p=path, d=dimensions: read_idx(p, d)[1], DataError)[0]
            continue
        size = 4 + 4 * dimensions
        for damaged in damages(content[:size]):
            path.write_bytes(damaged + content[size:] if len(damaged) == size else damaged)
            cases += 1
            with pytest.raises(DataError, match=path.name):
                read_idx(path, dimensions)
    record_property("cases", cases)


def test_padding_after_a_gz_member_is_no_damage_and_a_second_member_is(tmp_path):
    write_idx_folder(load_dataset("mnist", "test").subset(np.arange(2)), tmp_path)
    path = tmp_path / "x.gz"
    packed = gzip.compress((tmp_path / "t10k-labels-idx1-ubyte").read_bytes())
    path.write_bytes(packed + bytes(512))
    assert read_idx(path, 1)[0].tolist() == [7, 2]
    path.write_bytes(packed + gzip.compress(b"more"))
    with pytest.raises(DataError, match="holds more"):
        read_idx(path, 1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.webp", "a.tif", "a.ppm"])
def test_pictures(tmp_path, name, record_property):
    path = tmp_path / name
    record_property("seed", 0)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(path, **({"exif": exif} if name[2:] in ("png", "jpg", "webp") else {}))
    content = path.read_bytes()
    cases = 0
    for damaged in damages(content, range(0, len(content), max(1, len(content) // 60))):
        overwrite(path, damaged)
        cases += 1
        with contextlib.suppress(DataError):  # a pixel of another colour is no damage to be seen
            read_images([path], choose_format([path], 16))
    record_property("cases", cases)
