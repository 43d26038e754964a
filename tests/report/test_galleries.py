"""Small pictures, galleries and samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fmnist_aug.errors import DataError
from fmnist_aug.report import galleries as galleries_module
from fmnist_aug.report import mislabelled_images
from fmnist_aug.report.galleries import contact_sheet, image_png, limit_samples, strip_png
from fmnist_aug.report.tiles import arm_galleries
from report.made_up import HOSTILE, make_dataset, make_results


def test_most_often_mislabelled_images_come_first():
    labels = np.array([0, 1, 2, 0])
    right = 5 * np.eye(3)[labels]
    once, twice = right.copy(), right.copy()
    once[1], once[3] = [0, 0, 5], [0, 9, 0]
    twice[3] = [0, 9, 0]
    found = mislabelled_images(labels, [right, once, twice])
    assert [(image.index, image.predicted, image.wrong_runs) for image in found] == [
        (3, 1, 2),
        (1, 2, 1),
    ]
    assert found[0].probability == pytest.approx(np.exp(9) / (np.exp(9) + 2))
    assert found[0].runs == 3
    assert mislabelled_images(labels, [right, once, twice], classes=[1])[0].index == 1
    assert len(mislabelled_images(labels, [once], most=1)) == 1
    assert mislabelled_images(labels, []) == []


@pytest.mark.parametrize("shape", [(3, 3), (4,), (5, 3)])
def test_logits_of_another_data_set_are_refused(shape):
    with pytest.raises(DataError, match="don't fit the 4 test images"):
        mislabelled_images(np.array([0, 1, 2, 0]), [np.zeros(shape)])


@pytest.mark.parametrize("shape", [(28, 28, 1), (1, 1, 3), (300, 5, 3), (2, 400, 1)])
def test_images_of_any_shape_become_small_pngs(shape):
    picture = Image.open(io.BytesIO(image_png(np.full(shape, 7, np.uint8))))
    assert max(picture.size) <= galleries_module.MOST_PIXELS
    assert picture.convert("L").getextrema() == (7, 7)
    strip = Image.open(io.BytesIO(strip_png(np.full((4, *shape), 7, np.uint8))))
    assert strip.size[0] > 4 * picture.size[0] - 1


def test_small_images_keep_every_pixel():
    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28, 1)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image_png(image)))), image[..., 0])


def test_samples_are_limited_and_checked():
    stack = np.zeros((50, 4, 4, 3), np.uint8)
    kept = limit_samples([("a", stack), ("b", stack), ("c", stack)])
    assert [len(images) for _, images in kept] == [50, 30]
    with pytest.raises(DataError, match="uint8"):
        limit_samples([("a", stack.astype(np.float32))])
    with pytest.raises(DataError, match="rows, H, W"):
        limit_samples([("a", stack[0])])


@pytest.mark.fault(14)
def test_contact_sheet_of_one_image():
    test = make_dataset(names=HOSTILE[:3])
    found = mislabelled_images(test.labels, [np.ones((60, 3)) * [1, 0, 0]], most=1)
    assert Image.open(io.BytesIO(contact_sheet(test, found, "one"))).size[0] > 300


def test_a_gallery_of_the_classes_in_focus_says_so_and_claims_nothing_of_the_others():
    test = make_dataset(3, count=30)
    right = 9 * np.eye(3, dtype=np.float32)[test.labels]
    other, both = right.copy(), right.copy()
    other[2] = both[2] = [9, 0, 0]
    both[0] = [0, 9, 0]
    runs = {("baseline", 0): right, ("uniform", 0): other, ("targeted", 0): both}
    results = make_results(test, runs, focus=(0, 1))
    found = {
        arm: mislabelled_images(test.labels, [scores], (0, 1)) for (arm, _), scores in runs.items()
    }
    intros = [gallery.intro for gallery in arm_galleries(results, test, found)]
    assert intros[0] == "Nothing was mislabelled here."
    assert intros[1] == "Images of class 0 and class 1. None of these was mislabelled."
    assert intros[2].startswith("Images of class 0 and class 1. Most often mislabelled first")
