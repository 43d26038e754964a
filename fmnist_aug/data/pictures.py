"""Pictures without labels, brought to the form that a classifier takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.folders import list_pictures, read_images
from fmnist_aug.errors import DataError, UsageError

_AT_ONCE = 500
"""Pictures in memory at a time."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some pictures in a classifier's form.

    Attributes:
        paths: where they came from.
        images: uint8 (N, H, W, C).
        inverted: bool (N,), which of them were turned into their negative.
    """

    paths: tuple[Path, ...]
    images: NDArray[np.uint8]
    inverted: NDArray[np.bool_]


def find_pictures(paths: Sequence[str | Path]) -> list[Path]:
    """The picture files that are named, and those in the folders that are named, each once.

    Files are taken whatever they are called; in folders, hidden files and files that don't end
    like a picture are passed over.

    Raises:
        UsageError: a path that doesn't exist, or none at all.
        DataError: a folder without pictures, or with some of a kind that can't be read.
    """
    if not paths:
        raise UsageError("no pictures given; name files or folders")
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = list_pictures(path)
            if not inside:
                raise DataError(f"{path} holds no pictures")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path} does not exist; name a picture or a folder of pictures")
    return list(dict.fromkeys(found))


def read_pictures(
    paths: Sequence[Path],
    form: tuple[int, int, int],
    *,
    dark_background: bool = False,
    invert: bool | None = None,
) -> Iterator[Pictures]:
    """Decode pictures of any size and colour, some hundred at a time.

    They are fitted as the pictures of a training folder are: scaled, and padded with the mean
    colour of their border.

    Args:
        paths: the files.
        form: height, width and channels (1 or 3).
        dark_background: whether the classifier knows things before a dark background only;
            pictures with a light border are then inverted.
        invert: True inverts all of them, False none, whatever the background.

    Raises:
        DataError: a file is no picture, is cut, or is too large.
    """
    for start in range(0, len(paths), _AT_ONCE):
        chosen = tuple(paths[start : start + _AT_ONCE])
        images = read_images(chosen, form)
        if invert is None:
            inverted = light_backgrounds(images) & dark_background
        else:
            inverted = np.full(len(images), invert)
        images[inverted] = 255 - images[inverted]
        yield Pictures(chosen, images, inverted)


def light_backgrounds(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether the border of each image uint8 (N, H, W, C) is lighter than middle grey, bool (N,).

    The median is taken, so that a thing that touches the border doesn't decide.

    >>> light_backgrounds(np.array([[[[255], [255]]], [[[9], [9]]]], np.uint8)).tolist()
    [True, False]
    """
    grey = images.mean(axis=3)
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    return np.asarray(np.median(border, axis=1) > 127.5)
