"""Confusion matrices on the page, and the images behind their cells."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from fmnist_aug.errors import DataError
from fmnist_aug.report import galleries as galleries_module
from fmnist_aug.report.hard_images import hardest_images, probably_mislabelled
from fmnist_aug.report.matrices import confusion_matrices, matrix_style
from fmnist_aug.report.mistakes import collect_mistakes, mistakes_json
from report.made_up import ARMS, contrast_ratio, small


def behind(text):
    """What the page's script reads, and the cells that open something."""
    data = json.loads(re.search('id="mistakes">(.*?)</script>', text, re.S)[1])
    cells = []
    for table in re.findall('<table class="matrix".*?</table>', text, re.S):
        arm = re.search(r'^<table class="matrix" data-arm="(\d+)"( data-against)?', table)
        for true, predicted, number in re.findall(
            r'data-true="(\d+)" data-predicted="(\d+)"[^>]*>([^<]*)<', table
        ):
            number = int(number.replace(",", "").replace("−", "-"))
            cells.append((int(arm[1]), bool(arm[2]), int(true), int(predicted), number))
    return data, cells


def listed(data, arm, true, predicted):
    """The entries that the script shows for a cell of an arm."""
    return [
        (run["seed"], place)
        for run in data["runs"]
        if run["arm"] == arm
        for place, choice, _ in run["errors"]
        if choice == predicted and data["images"][place][1] == true
    ]


def test_as_many_images_lie_behind_a_cell_as_it_says(page, fashion):
    results = fashion[2]
    data, cells = behind(page[1])
    assert data["arms"] == list(ARMS)
    numbers = {cell[:4]: cell[4] for cell in cells}
    for (arm, difference, true, predicted), number in numbers.items():
        assert true != predicted
        shown = len(listed(data, arm, true, predicted))
        if difference:
            assert number == shown - len(listed(data, ARMS.index("uniform"), true, predicted))
        else:
            assert number == shown
    for position, arm in enumerate(ARMS):
        total = sum(np.array(r["confusion"]) for r in results["runs"] if r["arm"] == arm)
        np.fill_diagonal(total, 0)
        assert numbers[position, False, 6, 0] == total[6, 0]
        assert sum(n for (a, d, *_), n in numbers.items() if a == position and not d) == total.sum()


def test_what_lies_behind_a_cell_is_what_the_run_predicted(page, fashion):
    test, logits, _ = fashion
    data, _ = behind(page[1])
    for run in data["runs"]:
        scores = logits[data["arms"][run["arm"]], run["seed"]]
        wrong = np.flatnonzero(scores.argmax(axis=1) != test.labels).tolist()
        assert [data["images"][place][0] for place, *_ in run["errors"]] == wrong
        for place, predicted, per_mille in run["errors"][:20]:
            index, true, picture = data["images"][place]
            assert true == test.labels[index]
            assert predicted == scores[index].argmax()
            exponents = np.exp(scores[index] - scores[index].max())
            assert per_mille == pytest.approx(1000 / exponents.sum(), abs=0.51)
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
            assert np.array_equal(pixels, test.images[index, ..., 0])


def test_pictures_shrink_and_then_stop_where_there_are_too_many(monkeypatch):
    test, logits, results = small(size=60, channels=3)
    mistakes = collect_mistakes(results, test.labels, logits)
    monkeypatch.setattr("fmnist_aug.report.mistakes.MOST_PICTURE_BYTES", 12_000)
    data = json.loads(mistakes_json(mistakes, test, test.class_names))
    pictures = [picture for *_, picture in data["images"]]
    assert sum(len(picture or "") for picture in pictures) <= 12_000
    assert None in pictures
    kept = [position for position, picture in enumerate(pictures) if picture]
    times = np.bincount([place for run in data["runs"] for place, *_ in run["errors"]])
    assert min(times[kept]) >= max(times[[p for p in range(len(pictures)) if p not in kept]])
    picture = Image.open(io.BytesIO(base64.b64decode(pictures[kept[0]])))
    assert max(picture.size) == galleries_module.PIXEL_STEPS[-1]


def test_later_seeds_are_left_out_whole_where_there_are_too_many_mistakes(tmp_path):
    test, logits, results = small(runs=3)
    every = collect_mistakes(results, test.labels, logits)
    most = sum(len(run.indices) for run in every.runs if run.seed < 2)
    mistakes = collect_mistakes(results, test.labels, logits, most)
    assert {(run.arm, run.seed) for run in mistakes.runs} == {(a, s) for a in ARMS for s in (0, 1)}
    assert mistakes.seeds_left_out == (2,)
    first = confusion_matrices(results, mistakes)[0]
    assert first.note == "Sum of 2 runs."
    counted = sum(int(cell.text) for _, row in first.rows for cell in row)
    assert counted == 2 * len(test)


def test_predictions_of_another_comparison_are_refused():
    test, logits, results = small()
    results["runs"][0]["confusion"][0][0] += 1
    with pytest.raises(DataError, match="don't give the confusion matrix"):
        collect_mistakes(results, test.labels, logits)
    with pytest.raises(DataError, match="don't fit"):
        collect_mistakes(results, test.labels, {key: s[:, :2] for key, s in logits.items()})


def test_unequal_counts_of_runs_are_compared_a_run():
    test, logits, results = small()
    results["runs"] = [r for r in results["runs"] if (r["arm"], r["seed"]) != ("targeted", 1)]
    *_, difference = confusion_matrices(results, collect_mistakes(results, test.labels, logits))
    assert difference.note.startswith("Images a run")


def test_many_classes_show_those_with_the_most_confusions():
    test, logits, results = small(30, count=300, runs=1)
    mistakes = collect_mistakes(results, test.labels, logits)
    matrix = confusion_matrices(results, mistakes)[0]
    assert len(matrix.rows) == len(matrix.columns) == 20
    assert {"class 0", "class 1"} <= set(matrix.columns), "those that were swapped most"


def test_the_numbers_in_the_cells_can_be_read():
    rules = re.findall(r"background: (#\w{6}); color: (#\w{6})", matrix_style())
    assert len(rules) == 2 * (1 + 8 + 4 + 4)
    for pair in rules:
        assert contrast_ratio(*pair) >= 4.5, pair


def test_doubtful_labels_are_those_that_every_run_contradicts_surely():
    labels = np.array([0, 0, 0, 1, 1, 1])
    sure = 9.0 * np.eye(2)[[0, 0, 1, 1, 1, 1]]
    unsure = sure.copy()
    unsure[1] = [0.0, 0.1]
    found = probably_mislabelled(labels, [sure, unsure])
    assert [(image.index, image.true, image.rival) for image in found] == [(2, 0, 1)]
    assert found[0].rival_probability > 0.99
    assert [image.index for image in hardest_images(labels, [sure, unsure])] == [2, 1]
    assert probably_mislabelled(labels, []) == hardest_images(labels, []) == []
