"""Files that pretend to be checkpoints: no code runs, and the error is always the same kind."""

import io
import json
import os
import pickle
import struct
import zipfile
from dataclasses import asdict, replace

import pytest
import torch

from fmnist_aug import load_classifier
from fmnist_aug.classifier import read_tensors, write_tensors
from fmnist_aug.errors import CheckpointError
from fmnist_aug.hard_examples import HardExamples
from fmnist_aug.training.averaging import WeightAverage
from fmnist_aug.training.curve import LearningCurve
from fmnist_aug.training.sgd import SGD
from fmnist_aug.training.state import TrainingState, load_state, save_state

pytestmark = pytest.mark.fault(13)


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def raw(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def zipped(content):
    """As torch.save arranges its archives, but packed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", content)
    return stream.getvalue()


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ATTACKS = {
    "empty": b"",
    "short": b"\x08\0\0",
    "huge header": struct.pack("<Q", 1 << 62) + b"{}",
    "header beyond the file": struct.pack("<Q", 1 << 20) + b"{}",
    "no json": raw(b"{" * 50),
    "deep json": raw(b"[" * 100_000),
    "a list": raw([]),
    "twice the same name": raw(b'{"a":%s,"a":%s}' % ((json.dumps(ENTRY).encode(),) * 2), bytes(8)),
    "overlap": raw({"a": ENTRY, "b": ENTRY}, bytes(8)),
    "hole": raw({"a": ENTRY}, bytes(16)),
    "beyond the end": raw({"a": ENTRY}, bytes(4)),
    "shape overflow": raw({"a": {**ENTRY, "shape": [1 << 40, 1 << 40]}}, bytes(8)),
    "negative": raw({"a": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8)),
    "unknown type": raw({"a": {**ENTRY, "dtype": "F128"}}, bytes(8)),
    "not ours": raw({"a": ENTRY}, bytes(8)),
    "numbers as metadata": raw({"__metadata__": {"format": 1}, "a": ENTRY}, bytes(8)),
    "web page": b"<html>503</html>" * 9,
    "zip bomb": zipped(bytes(1 << 26)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_forged_files(tmp_path, attack):
    path = tmp_path / "model.safetensors"
    path.write_bytes(ATTACKS[attack])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_classifier(path)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_no_code_runs(tmp_path, kind):
    canary, path = tmp_path / "canary", tmp_path / "model.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(canary)))
    else:
        torch.save({"weights": Payload(canary)}, path)
    with pytest.raises(CheckpointError):
        load_classifier(path)
    assert not canary.exists()


def test_folders_and_missing_files(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="cannot read"):
            load_classifier(path)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "strong-cnn-of-later"},
        {"model": ["fast-cnn"]},
        {"model": "baseline-cnn"},
        {"class_names": ("a", "b")},
        {"class_names": ()},
        {"class_names": (1, 2, 3)},
        {"class_names": 3},
        {"class_names": tuple(map(str, range(10**6)))},
        {"image_size": (10**9, 10**9)},
        {"image_size": (0, 8)},
        {"image_size": (8,)},
        {"image_size": (8.5, 8)},
        {"image_size": "88"},
        {"mean": (1.0, 1.0)},
        {"mean": (1.0,) * 3, "std": (1.0,) * 3},
        {"mean": ("1",)},
        {"std": (0.0,)},
        {"std": (-1.0,)},
        {"std": ()},
        {"views": ("identity", "upside-down")},
        {"views": 7},
        {"of_a_later_version": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_headers_that_do_not_fit(tmp_path, classifier, change):
    path = tmp_path / "model.safetensors"
    header = {**asdict(classifier.header), **change}
    write_tensors(path, classifier.model.state_dict(), "classifier", header)
    with pytest.raises(CheckpointError, match=r"model\.safetensors doesn't fit this version"):
        load_classifier(path)


@pytest.mark.parametrize("header", [[], 5, None, "text", {}, [[1]]])
def test_headers_of_another_kind(tmp_path, classifier, header):
    path = tmp_path / "model.safetensors"
    write_tensors(path, classifier.model.state_dict(), "classifier", header)
    with pytest.raises(CheckpointError):
        load_classifier(path)


@pytest.mark.fault(6)
def test_weights_of_another_shape_or_type_or_missing_or_not_finite(
    tmp_path, classifier, record_property
):
    path = tmp_path / "model.safetensors"
    header, weights = asdict(classifier.header), dict(classifier.model.state_dict())
    name = "head.weight"
    changes = [
        {name: weights[name][:, :5]},
        {name: weights[name].double()},
        {name: torch.full_like(weights[name], torch.nan)},
        {name: torch.full_like(weights[name], torch.inf)},
        {"another": torch.zeros(3)},
    ]
    for change in changes:
        write_tensors(path, {**weights, **change}, "classifier", header)
        with pytest.raises(CheckpointError):
            load_classifier(path)
    del weights[name]
    write_tensors(path, weights, "classifier", header)
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        load_classifier(path)
    record_property("cases", len(changes) + 1)


def test_a_later_schema_says_so(tmp_path, classifier, monkeypatch):
    path = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("fmnist_aug.classifier.SCHEMA", 2)
        classifier.save(path)
    with pytest.raises(CheckpointError, match="schema 2, this version reads 1"):
        load_classifier(path)


def test_other_class_names_with_the_same_weights_are_noticed(tmp_path, classifier):
    path = tmp_path / "model.safetensors"
    classifier.save(path)
    path.write_bytes(path.read_bytes().replace(b"cat", b"rat", 1))
    with pytest.raises(CheckpointError, match="changed or damaged"):
        load_classifier(path)


def fresh_state():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 2)
    group = {"params": list(model.parameters()), "weight_decay": 0.0}
    optimizer = SGD([group], lr=0.1, momentum=0.9)
    cpu = torch.device("cpu")
    return TrainingState(
        model,
        [optimizer],
        HardExamples(4, cpu),
        LearningCurve(9, 2, 4, cpu),
        torch.amp.GradScaler("cpu", init_scale=64.0),
        WeightAverage(model, 0.9),
    )


def trained_state():
    state = fresh_state()
    state.model(torch.ones(4, 3)).sum().backward()
    state.optimizers[0].step()
    state.average.update(1)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 8.0, "_growth_tracker": 3})
    state.step, state.seconds, state.hard.losses[1] = 5, 1.5, 0.25
    return state


IDENTITY = {"seed": 0, "sides": (8, 8)}


def test_a_kept_state_is_taken_up_and_one_of_another_training_is_not(tmp_path):
    path = tmp_path / "state.safetensors"
    kept = trained_state()
    save_state(path, kept, IDENTITY)
    state = fresh_state()
    load_state(path, state, IDENTITY)
    assert (state.step, state.seconds) == (5, 1.5)
    assert torch.equal(state.model.weight, kept.model.weight)
    assert torch.equal(state.hard.losses, kept.hard.losses)
    assert torch.equal(state.average.values["weight"], kept.average.values["weight"])
    assert (
        state.scaler.state_dict() == kept.scaler.state_dict() != fresh_state().scaler.state_dict()
    )
    momenta = (each.optimizers[0].state_dict()["0.momentum"] for each in (state, kept))
    assert torch.equal(*momenta)
    state = fresh_state()
    load_state(path, state, {**IDENTITY, "seed": 1})
    assert state.step == 0


@pytest.mark.parametrize(
    ("tensors", "header"),
    [
        ({"optimizer.0.9.momentum": torch.zeros(2, 3)}, {}),
        ({"optimizer.0.0.momentum": torch.zeros(1)}, {}),
        ({"model.weight": torch.zeros(9, 9)}, {}),
        ({"model.weight": torch.full((2, 3), torch.nan)}, {}),
        ({"model.more": torch.zeros(1)}, {}),
        ({"hard.losses": torch.zeros(9)}, {}),
        ({"average.weight": torch.zeros(1)}, {}),
        ({"average.weight": torch.full((2, 3), torch.inf)}, {}),
        ({"average.more": torch.zeros(1)}, {}),
        ({}, {"curve": {"points": 3}}),
        ({}, {"refreshed": [3]}),
        ({}, {"scaler": {}}),
        ({}, {"scaler": [8.0]}),
        ({}, {"scaler": {**torch.amp.GradScaler("cpu").state_dict(), "scale": "x"}}),
        ({}, {"step": -1}),
        ({}, {"step": "5"}),
        ({}, {"seconds": None}),
    ],
)
def test_a_damaged_state_starts_that_run_again(tmp_path, tensors, header):
    path = tmp_path / "state.safetensors"
    save_state(path, trained_state(), IDENTITY)
    kept, kind, content = read_tensors(path)
    write_tensors(path, {**kept, **tensors}, kind, {**content, **header})
    state, untouched = fresh_state(), fresh_state()
    load_state(path, state, IDENTITY)
    assert (state.step, state.seconds) == (0, 0.0)
    assert torch.equal(state.model.weight, untouched.model.weight)
    assert torch.equal(state.average.values["weight"], untouched.average.values["weight"])
    assert torch.isinf(state.hard.losses).all()
    assert not state.hard.visits.any()
    assert not state.curve.points
    assert state.scaler.state_dict() == untouched.scaler.state_dict()
    assert not any(value.any() for value in state.optimizers[0].state_dict().values())


def test_a_header_is_kept_as_it_was(tmp_path, classifier):
    path = tmp_path / "model.safetensors"
    classifier.save(path)
    assert load_classifier(path).header == replace(classifier.header)
