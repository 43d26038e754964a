"""Writes a comparison's figures and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.dataset import ImageDataset
from fmnist_aug.files import write_bytes, write_text
from fmnist_aug.report.canvas import DARK
from fmnist_aug.report.figures import draw_figures, file_name
from fmnist_aug.report.galleries import (
    MOST_IMAGES,
    contact_sheet,
    limit_samples,
    mislabelled_images,
)
from fmnist_aug.report.html import render_page
from fmnist_aug.report.matrices import MOST_SHOWN
from fmnist_aug.report.summary import Results, arm_names, focus_classes, runs_of

MOST_IMAGES_TOGETHER = 3 * MOST_IMAGES


def write_report(
    folder: Path,
    results: Results,
    test: ImageDataset,
    logits: Mapping[tuple[str, int], NDArray[np.float32]],
    augmented_samples: Sequence[tuple[str, NDArray[np.uint8]]] = (),
) -> Path:
    """Write ``folder/figures/*.png`` and ``folder/report.html``; return the page's path.

    The same arguments give the same bytes. The page stays below 5 MB and loads nothing else.

    Args:
        folder: the comparison's folder; made if missing.
        results: the dictionary that results.json holds, with one run or more.
        test: the test set, images uint8 (N, H, W, C).
        logits: for each (arm, seed) float32 (N, K), in the order of ``test``; a run whose logits
            are not given is left out of the galleries.
        augmented_samples: captions and stacks uint8 (rows, H, W, C): an original, then what
            augmentation made of it.

    Raises:
        DataError: the logits or samples don't have these shapes.
        RunFolderError: a file can't be written.
    """
    samples = limit_samples(augmented_samples)
    arms = arm_names(results)
    most = min(MOST_IMAGES, MOST_IMAGES_TOGETHER // len(arms))
    mislabelled = {}
    for arm in arms:
        seeds = [run["seed"] for run in runs_of(results, arm)]
        found = [logits[arm, seed] for seed in seeds if (arm, seed) in logits]
        if found:
            mislabelled[arm] = mislabelled_images(test.labels, found, focus_classes(results), most)
    light = draw_figures(results)
    # small matrices stand on the page as tables
    dark = draw_figures(results, DARK, matrices=len(results["class_names"]) > MOST_SHOWN)
    figures = {name: (light[name], dark[name]) for name in dark}
    page = render_page(results, test, figures, mislabelled, logits, samples)

    for name, png in light.items():
        write_bytes(folder / "figures" / f"{name}.png", png)
    for arm, images in mislabelled.items():
        if images:
            sheet = contact_sheet(test, images, f"Mislabelled by {arm}")
            write_bytes(folder / "figures" / f"mislabelled-{file_name(arm)}.png", sheet)
    write_text(folder / "report.html", page)
    return folder / "report.html"
