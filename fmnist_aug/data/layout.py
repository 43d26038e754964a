"""Where the splits of an image folder are: ``train`` and ``test``, or class folders to be split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.folders import LAYOUT, is_picture, list_classes, list_images, list_pictures
from fmnist_aug.errors import DataError

TEST_SHARE = 0.2
"""Share of each class that becomes the test set where there is none."""
_SPLIT_NAMES = frozenset(
    {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
)


@dataclass(frozen=True, eq=False)
class FolderLayout:
    """The pictures of an image folder, not decoded yet.

    Attributes:
        class_names: one name a class folder, sorted.
        parts: for ``train`` and ``test`` the paths and their labels, int64 (N,).
        divided: whether the folder had no splits, so that each class was divided by chance.
    """

    class_names: tuple[str, ...]
    parts: dict[str, tuple[list[Path], NDArray[np.int64]]]
    divided: bool


def find_layout(path: Path, expected: str = LAYOUT, *, test: bool = True) -> FolderLayout:
    """Find the pictures of ``PATH/{train,test}/CLASS/*``, or divide those of ``PATH/CLASS/*``.

    The names of the split folders may be in capitals. The division depends on the file names of a
    class alone.

    Args:
        path: the folder.
        expected: how to describe what belongs there.
        test: whether the test pictures are needed.

    Raises:
        DataError: other folders, a class that only the test split has, or no pictures.
    """
    found = {name.lower(): name for name in sorted(list_classes(path), reverse=True)}
    if "train" in found and ("test" in found or not test):
        class_names = list_classes(path / found["train"])
        parts = {"train": list_images(path / found["train"], class_names)}
        if test:
            _refuse_unknown(path / found["test"], class_names)
            parts["test"] = list_images(path / found["test"], class_names)
            for label in np.setdiff1d(parts["test"][1], parts["train"][1]):
                raise DataError(
                    f"{path / found['train'] / class_names[label]} holds no pictures, but the test "
                    "split has some of this class; add training pictures or remove the class"
                )
        return FolderLayout(class_names, parts, divided=False)
    others = sorted(found[name] for name in _SPLIT_NAMES & set(found))
    if others:
        missing = next(name for name in ("train", "test") if name not in found)
        raise DataError(
            f"{path} has no folder {missing!r}, but {', '.join(map(repr, others))}; expected "
            f"{LAYOUT}; rename what you have, or put all class folders into one folder to have "
            "it divided"
        )
    class_names = tuple(name for name in list_classes(path) if _holds_pictures(path / name))
    if not class_names:
        pictures = sum(is_picture(entry) for entry in path.iterdir())
        but = f" (it holds {pictures} pictures, but no class folders)" if pictures else ""
        raise DataError(f"{path} is no data set{but}; expected {expected}")
    paths, labels = list_images(path, class_names)
    chosen = _test_places(labels)
    parts = {
        split: ([paths[place] for place in np.flatnonzero(part)], labels[part])
        for split, part in (("train", ~chosen), ("test", chosen))
    }
    if not parts["test"][0]:
        raise DataError(f"{path}: no class has 2 pictures, so none can be held back for a test")
    return FolderLayout(class_names, parts, divided=True)


def _refuse_unknown(folder: Path, class_names: tuple[str, ...]) -> None:
    for name in list_classes(folder):
        if name not in class_names:
            raise DataError(
                f"{folder / name}: class {name!r} is not among the training classes "
                f"({', '.join(class_names[:10])}); the splits must have the same class folders"
            )


def _holds_pictures(folder: Path) -> bool:
    """Whether it may be a class: it isn't if comparisons left their files in it, as in ``runs``."""
    return bool(list_pictures(folder)) and not any(folder.glob("*/config.json"))


def _test_places(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        if len(places) > 1:  # a single picture is left to train on
            count = max(1, round(TEST_SHARE * len(places)))
            order = np.random.default_rng(len(places)).permutation(len(places))
            chosen[places[order[:count]]] = True
    return chosen
