import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_jobs import without_times

from fmnist_aug import ConfusionPlan, ConfusionReport, compare, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.cli.main import cli
from fmnist_aug.computing import use_threads
from fmnist_aug.data import StreamedImages, streaming
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.training import Hardware, TrainSettings, train_model

SETTINGS = TrainSettings(model="fast-cnn", epochs=1.5, batch_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Real images as pictures, of two sizes so that some must be scaled."""
    root = tmp_path_factory.mktemp("pictures")
    for split, size in (("train", 200), ("test", 60)):
        data = load_dataset("fashion-mnist", split).subset(np.arange(size))
        for number, (image, label) in enumerate(data):
            path = root / split / f"class-{label}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[: 28 - number % 2 * 4, :, 0]).save(path)
            if number + 1 == size:
                break
    return root


@pytest.fixture(scope="module")
def both(folder):
    return load_dataset(folder, stream=False), load_dataset(folder, stream=True)


def test_streamed_images_are_those_in_memory(both):
    kept, streamed = both
    assert isinstance(kept.images, np.ndarray)
    assert isinstance(streamed.images, StreamedImages)
    assert streamed.images.shape == kept.images.shape
    assert streamed.fingerprint() == kept.fingerprint()
    some = np.array([3, 199, 3])
    for index in (5, np.int64(-1), slice(2, 9, 3), some, kept.labels == 4):
        assert (streamed.images[index] == kept.images[index]).all()
    part = streamed.subset(some)
    assert isinstance(part.images, StreamedImages)
    assert (part.images[:] == kept.images[some]).all()
    assert (part.labels == kept.labels[some]).all()


def test_batches_come_in_order_from_any_number_of_processes(both, monkeypatch):
    wanted = [np.arange(start, start + 9) % 200 for start in range(0, 300, 9)]
    for processes in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=processes: count)
        monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
        for indices, images in zip(wanted, both[1].images.batches(wanted), strict=True):
            assert (images == both[0].images[indices]).all()


def plan(data, policy, keep, refresh):
    counts = np.full((10, 10), 1) + 9 * np.eye(10, dtype=int)
    report = ConfusionReport(tuple(map(tuple, counts.tolist())), data.class_names)
    found = ConfusionPlan.from_report(report, [(0, 6)], policy=policy, keep=keep)
    return dataclasses.replace(found, keep_after=0.5, refresh_every=refresh)


@pytest.mark.parametrize(
    ("policy", "keep", "refresh"),
    [("photometric", 1.0, 0), ("mix-away", 0.5, 0), ("photometric", 0.5, 1)],
)
def test_a_streamed_training_is_that_in_memory_to_the_bit(both, policy, keep, refresh):
    with use_threads(1):
        kept, streamed = (
            train_model(
                data,
                SETTINGS,
                base=get_policy("flip"),
                plan=plan(data, policy, keep, refresh),
                hardware=Hardware("cpu", "fp32"),
            )
            for data in both
        )
    assert kept.curve == streamed.curve
    assert kept.refreshed == streamed.refreshed
    assert bool(kept.refreshed) == bool(refresh)
    assert kept.classifier.header == streamed.classifier.header
    other = streamed.classifier.model.state_dict()
    for name, value in kept.classifier.model.state_dict().items():
        assert torch.equal(value, other[name])
    logits = kept.classifier.predict_logits(both[0].images)
    assert (logits == kept.classifier.predict_logits(both[1].images)).all()


def test_a_streamed_comparison_has_the_results_of_one_in_memory(folder, tmp_path):
    found = [
        compare(
            folder,
            out=tmp_path / str(stream),
            stream=stream,
            preset="smoke",
            epochs=0.5,
            runs=1,
            arms=["targeted"],
            pairs="0:6",
            jobs=1,
            device="cpu",
            precision="fp32",
        )
        for stream in (False, True)
    ]
    kept, streamed = (without_times(each.results) for each in found)
    assert kept == streamed


def test_pictures_are_streamed_if_they_would_take_a_third_of_the_free_memory(
    folder, monkeypatch, caplog
):
    size = 200 * 28 * 28
    monkeypatch.setattr(streaming, "free_memory", lambda: 3 * size)
    caplog.set_level("INFO", "fmnist_aug")
    assert isinstance(load_dataset(folder).images, np.ndarray)
    assert not caplog.messages
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # as torchrun sets it
    assert isinstance(load_dataset(folder).images, StreamedImages)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(streaming, "free_memory", lambda: 3 * size - 1)
    caplog.clear()
    assert isinstance(load_dataset(folder).images, StreamedImages)
    assert "200 pictures would take" in caplog.messages[0]
    assert isinstance(load_dataset(folder, stream=False).images, np.ndarray)
    assert isinstance(load_dataset(folder, "test").images, np.ndarray), "these are few enough"


def test_the_command_line_says_that_it_streams(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "free_memory", lambda: 1)
    command = ["preview", "--dataset", str(folder), "--policy", "flip"]
    command += ["--out", str(tmp_path / "sheet.png")]
    shown = CliRunner().invoke(cli, command)
    assert shown.exit_code == 0, shown.output
    assert "200 pictures would take" in shown.stderr
    refused = CliRunner().invoke(cli, [*command, "--dataset", "mnist", "--stream"])
    assert "only these can be streamed" in str(refused.exception)


def test_free_memory_is_a_number_where_there_are_ways_to_know():
    assert streaming.free_memory() > 1 << 20
    assert streaming.needs_streaming(1 << 60)
    assert not streaming.needs_streaming(1)


def test_only_image_folders_are_streamed(small):
    for dataset in (small, "fashion-mnist"):
        with pytest.raises(UsageError, match="no image folder"):
            load_dataset(dataset, stream=True)


@pytest.mark.fault(1)
def test_a_picture_that_is_damaged_meanwhile_is_named_in_one_line(folder):
    streamed = load_dataset(folder, "test", stream=True)
    streamed.images.paths[7] = str(folder / "gone.png")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read") as raised:
        streamed.fingerprint()
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.fault(8)
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_killed_decoder_is_told_of(both):
    before = set(multiprocessing.active_children())  # joblib keeps those of earlier tests
    batches = both[1].images.batches([np.arange(50)] * 40)
    next(batches)
    decoder = (set(multiprocessing.active_children()) - before).pop()
    os.kill(decoder.pid, signal.SIGKILL)
    with pytest.raises(DataError, match="was killed, perhaps since memory ran out"):
        list(batches)


STREAM = """
import resource, sys
import numpy as np
import torch
from fmnist_aug import AugmentationSampler, ConfusionPlan, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.classifier import CheckpointHeader
from fmnist_aug.training.batches import Batches

def peak():
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in both) >> 10

def draw(data):
    plan = ConfusionPlan.empty(data.class_names)
    size = data.images.shape[1:3]
    header = CheckpointHeader("", data.class_names, size, (1.0,) * 3, (1.0,) * 3, ())
    nothing = get_policy("none")
    sampler = AugmentationSampler(data, plan)
    batches = Batches(data, sampler, 16, nothing, nothing, 0, header, torch.device("cpu"))
    seen = sum(len(indices) for *_, indices in batches.stream(0, len(data) // 16))
    assert seen == len(data)

torch.set_num_threads(1)
whole = load_dataset(sys.argv[1], stream=True, image_size=224)
draw(whole.subset(np.arange(0, 800, 10)))
before = peak()
draw(whole)
print(peak() - before, np.prod(whole.images.shape) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as on Linux")
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    original = tmp_path / "original.png"
    Image.fromarray(noise).save(original)
    for label in "ab":
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(400):
            (tmp_path / "train" / label / f"{number}.png").hardlink_to(original)
    done = subprocess.run(
        [sys.executable, "-c", STREAM, tmp_path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    grown, decoded = map(int, done.stdout.split())
    assert decoded > 100
    assert grown < 20
