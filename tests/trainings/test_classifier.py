"""What a training leaves: predictions, views and checkpoints."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from fmnist_aug import load_classifier
from fmnist_aug.augment import get_policy
from fmnist_aug.classifier import Classifier, softmax
from fmnist_aug.errors import CheckpointError, DataError
from fmnist_aug.training import train_model
from trainings.short import CPU, SHORT


@pytest.fixture(scope="module")
def trained(garments):
    settings = dataclasses.replace(SHORT, epochs=0.5, test_time_shift=True)
    return train_model(garments, settings, base=get_policy("flip"), hardware=CPU)


def test_only_a_network_that_was_trained_on_mirrored_images_is_asked_about_them(garments):
    short = dataclasses.replace(SHORT, epochs=0.1)
    for base, views in (("flip", ("identity", "flip")), ("erasing", ("identity",))):
        trained = train_model(garments, short, base=get_policy(base), hardware=CPU)
        assert trained.classifier.header.views == views
    trained = train_model(garments, short, hardware=CPU)
    assert trained.classifier.header.views == ("identity",)


# larger logits make a network surer of itself
@pytest.mark.parametrize("sharper", [1, 1000])
@pytest.mark.parametrize("views", [("identity",), ("identity", "flip")])
def test_moved_images_count_where_the_others_leave_doubt(trained, garments, views, sharper):
    images = garments.images[:200]
    around = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    model = copy.deepcopy(trained.classifier.model)
    model.head.weight.data *= sharper

    def logits(images, *views):
        header = dataclasses.replace(trained.classifier.header, views=views)
        return Classifier(model, header).predict_logits(images)

    # down, up, right, left
    moves = [around[:, :-2, 1:-1], around[:, 2:, 1:-1], around[:, 1:-1, :-2], around[:, 1:-1, 2:]]
    mirrored = [False, True, True, False] if "flip" in views else [False] * 4
    moved = [
        logits(each[:, :, ::-1] if mirror else each, "identity")
        for each, mirror in zip(moves, mirrored, strict=True)
    ]
    own = logits(images, *views)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    found = logits(images, *views, "shift")
    second, first = np.sort(softmax(own), axis=1)[:, -2:].T
    weight = 0.4 * np.clip(2 - 4 * (first - second), 0, 1)[:, None]
    expected = (1 - weight) * own + weight * np.mean(moved, axis=0)
    assert found == pytest.approx(expected, abs=1e-5 * sharper)
    sure = weight[:, 0] == 0
    assert np.array_equal(found[sure], own[sure])
    assert sure.any() == (sharper > 1)
    assert sum(seen) == len(views) * len(images) + 4 * np.count_nonzero(~sure)
    assert np.abs(found - own).max() > 1e-3


def test_a_checkpoint_predicts_as_the_classifier_did(trained, garments, tmp_path):
    path = tmp_path / "model.safetensors"
    trained.classifier.save(str(path))
    loaded = load_classifier(path)
    images = garments.images[:30]
    expected = trained.classifier.predict_proba(images)
    assert np.array_equal(loaded.predict_proba(images), expected)
    assert np.array_equal(loaded.predict_proba(images[..., 0]), expected)
    assert expected.dtype == np.float32
    assert expected.sum(axis=1) == pytest.approx(np.ones(30), abs=1e-5)
    assert loaded.header.views == ("identity", "flip", "shift")
    assert loaded.predict_proba(images[:0]).shape == (0, 10)
    with pytest.raises(DataError, match="28, 28, 1"):
        loaded.predict(np.zeros((2, 32, 32, 1), np.uint8))


@pytest.mark.fault(13)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "text", "not ours"])
def test_damaged_checkpoints_give_one_kind_of_error(trained, tmp_path, damage):
    path = tmp_path / "model.safetensors"
    trained.classifier.save(path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "not ours":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut": content[: len(content) // 2],
                "flipped": content[:30] + bytes([content[30] ^ 255]) + content[31:],
                "text": b"<html>not found</html>" * 100,
            }[damage]
        )
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_classifier(path)


@pytest.mark.fault(6, 13)
def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    model = trained.classifier.model
    kept = model.head.weight.data.clone()
    model.head.weight.data[0, 0] = float("nan")
    trained.classifier.save(path)
    model.head.weight.data = kept
    with pytest.raises(CheckpointError, match="not finite"):
        load_classifier(path)
