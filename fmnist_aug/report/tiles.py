"""Images on the page: each with words for those who can't see it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.dataset import ImageDataset
from fmnist_aug.report import summary
from fmnist_aug.report.galleries import Mislabelled, image_png, strip_png
from fmnist_aug.report.hard_images import HardImage
from fmnist_aug.report.wording import percent, plural
from fmnist_aug.text import clean


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Attributes:
        source: a ``data:`` address.
        text: what it shows, for those who can't see it.
        caption: the words below it.
        dark: the same for a dark page, if it differs.
    """

    source: str
    text: str
    caption: str = ""
    dark: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images of one arm under a heading."""

    title: str
    intro: str
    tiles: tuple[Picture, ...]


def data_address(png: bytes) -> str:
    """A PNG as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def arm_galleries(
    results: summary.Results, test: ImageDataset, mislabelled: Mapping[str, Sequence[Mislabelled]]
) -> list[Gallery]:
    """For each arm a gallery of images that it mislabelled."""
    names = summary.class_names(results)
    galleries = []
    for arm, images in mislabelled.items():
        tiles = []
        for image in images:
            words = f"{names[image.true]} taken for {names[image.predicted]}"
            caption = f"{names[image.true]} → {names[image.predicted]}"
            sure = f"{percent(image.probability, 0)} %"
            often = f"{image.wrong_runs} of {plural(image.runs, 'run')}"
            tiles.append(
                Picture(
                    data_address(image_png(test.images[image.index])),
                    f"Test image {image.index}: {words}, {sure}, wrong in {often}",
                    f"{caption}\n{sure} · {often}",
                )
            )
        focus = summary.focus_names(results)
        # of classes in focus no others are given, and there may be mistakes on those
        intro = f"Images of {focus}. " if focus else ""
        if tiles:
            intro += (
                "Most often mislabelled first, then by the probability given to the wrong class."
            )
        elif any(run["errors"] for run in summary.runs_of(results, arm)):
            intro += "None of these was mislabelled."
        else:
            intro = "Nothing was mislabelled here."
        galleries.append(Gallery(clean(arm), intro, tuple(tiles)))
    return galleries


def hard_tiles(
    results: summary.Results, test: ImageDataset, images: Sequence[HardImage]
) -> tuple[Picture, ...]:
    """A tile for each image that was hard for all arms together."""
    names = summary.class_names(results)
    tiles = []
    for image in images:
        true = f"{names[image.true]} {percent(image.true_probability, 0)} %"
        rival = f"{names[image.rival]} {percent(image.rival_probability, 0)} %"
        often = f"wrong in {image.wrong_runs} of {plural(image.runs, 'run')}"
        tiles.append(
            Picture(
                data_address(image_png(test.images[image.index])),
                f"Test image {image.index}, labelled {true}, rival {rival}, {often}",
                f"label {true}\nrival {rival}\nimage {image.index}\n{often}",
            )
        )
    return tuple(tiles)


def sample_strips(samples: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[Picture]:
    """A strip for each caption and stack uint8 (rows, H, W, C), the original first."""
    return [
        Picture(
            data_address(strip_png(stack)),
            f"{caption}: the original and {plural(len(stack) - 1, 'augmented image')}",
            caption,
        )
        for caption, stack in samples
    ]
