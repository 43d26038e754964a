"""`load_dataset`: from a name or a path to an `ImageDataset`."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from pathlib import Path

import numpy as np

from fmnist_aug.data import folders
from fmnist_aug.data.dataset import DatasetCard, ImageDataset, Split
from fmnist_aug.data.idx import FILE_STEMS, find_idx_files, read_idx_pair
from fmnist_aug.data.layout import find_layout
from fmnist_aug.data.named import NAMED_DATASETS, PACKAGED_ROOT, NamedDataset, recognise
from fmnist_aug.data.streaming import StreamedImages, needs_streaming
from fmnist_aug.errors import DataError, RunFolderError, UsageError
from fmnist_aug.files import write_bytes

_log = logging.getLogger(__name__)


def load_dataset(
    name_or_path: str | Path = "fashion-mnist",
    split: Split = "train",
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    flip: bool | None = None,
    stream: bool | None = None,
) -> ImageDataset:
    """Read one split of a data set into memory, or stream it from the disk if it is too large.

    Args:
        name_or_path: ``fashion-mnist`` or ``mnist`` (packaged, no network needed), or the path
            of an IDX folder (``train-images-idx3-ubyte[.gz]`` and the other three files) or of
            an image folder (``PATH/{train,test}/CLASS/*``; of ``PATH/CLASS/*`` a fifth of each
            class, chosen by chance but always alike, becomes the test split).
        split: ``train`` or ``test``.
        data_dir: folder in torchvision's layout (``DIR/FashionMNIST/raw``) in which named sets
            are looked for before the packaged ones.
        image_size: side in pixels to which the pictures of an image folder are brought.
        flip: whether a mirrored image keeps its label, if the data set's card should be
            overruled.
        stream: whether to leave the pictures of an image folder on the disk and decode them
            whenever they are drawn; by default if decoded they would take more than a third of the
            memory that is free. Results are the same to the bit.

    Raises:
        UsageError: an unknown name or split, or streaming, or bringing to another size, something
            else than an image folder.
        DataError: files that are missing, cut, corrupt or contradictory.

    >>> dataset = load_dataset("mnist", "test")
    >>> dataset.images.shape, dataset.labels.shape
    ((10000, 28, 28, 1), (10000,))
    """
    if split not in ("train", "test"):
        raise UsageError(f"unknown split {split!r}; choose 'train' or 'test'")
    if image_size is not None and image_size < 8:
        raise UsageError(f"an image size of {image_size} is too small; choose at least 8 pixels")
    named = NAMED_DATASETS.get(str(name_or_path))
    path = Path(name_or_path)
    try:
        path.exists()
    except OSError as error:  # too long, or below a folder that may not be entered
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if named is not None:
        dataset = _load_named(named, split, data_dir)
    elif path.is_dir():
        dataset = _load_path(path, split, image_size, stream)
    elif path.exists():
        raise DataError(f"{path} is a file; a data set is a folder: {_EXPECTED}")
    else:
        raise UsageError(
            f"no data set {str(name_or_path)!r}: neither a known name "
            f"({', '.join(NAMED_DATASETS)}) nor an existing folder"
        )
    if stream and not isinstance(dataset.images, StreamedImages):
        raise UsageError(f"{name_or_path} is no image folder, and only these can be streamed")
    if image_size is not None and dataset.image_size != (image_size, image_size):
        height, width = dataset.image_size
        raise UsageError(
            f"{name_or_path} is no image folder, so its images stay {height} × {width}; leave out "
            "--image-size"
        )
    if flip is not None:
        dataset = dataclasses.replace(dataset, card=dataclasses.replace(dataset.card, flip=flip))
    return dataset


def find_dataset_files(
    name: str, split: Split, data_dir: str | Path | None = None
) -> tuple[Path, Path]:
    """Paths of the images and labels of a named set: in ``data_dir`` if it has them, or packaged.

    Raises:
        UsageError: ``data_dir`` is not a folder.
        DataError: only one of the two files is there.
    """
    named = NAMED_DATASETS[name]
    if data_dir is not None:
        if not Path(data_dir).is_dir():
            raise UsageError(f"--data-dir {data_dir} is not a folder")
        for base in (Path(data_dir) / named.folder, Path(data_dir) / name):
            found = find_idx_files(base, split)
            if found is not None:
                return found
    packaged = find_idx_files(PACKAGED_ROOT / named.folder, split)
    if packaged is None:
        raise DataError(
            f"the packaged files of {named.card.title} are missing from {PACKAGED_ROOT}; install "
            "fmnist-aug again"
        )
    return packaged


def write_idx_folder(dataset: ImageDataset, folder: str | Path) -> tuple[Path, Path]:
    """Write a grey data set as two plain IDX files into ``folder``.

    Raises:
        DataError: the images are in colour, which IDX readers don't expect, or of more classes
            than the bytes of the labels can tell apart.
        RunFolderError: the folder can't be written, or holds compressed files, which would be read
            in place of these.
    """
    if dataset.images.shape[3] != 1:
        raise DataError(f"{dataset.card.title} is in colour; only grey images go into IDX files")
    if dataset.num_classes > 256:
        raise DataError(
            f"{dataset.card.title} has {dataset.num_classes} classes; labels in IDX files are "
            "bytes, so at most 256 classes go into them"
        )
    images_path, labels_path = (Path(folder) / stem for stem in FILE_STEMS[dataset.split])
    for path in (images_path, labels_path):
        if (compressed := path.with_name(f"{path.name}.gz")).exists():
            raise RunFolderError(
                f"{compressed} would be read in place of what is written beside it; remove it or "
                "choose another folder"
            )
    images = dataset.images[:]
    for path, values in (
        (images_path, images[..., 0]),
        (labels_path, dataset.labels.astype(np.uint8)),
    ):
        header = bytes([0, 0, 8, values.ndim])
        header += b"".join(size.to_bytes(4) for size in values.shape)
        write_bytes(path, header + np.ascontiguousarray(values).tobytes())
    return images_path, labels_path


_EXPECTED = f"either the four IDX files or {folders.LAYOUT}"


def _load_named(named: NamedDataset, split: Split, data_dir: str | Path | None) -> ImageDataset:
    paths = find_dataset_files(named.card.name, split, data_dir)
    images, labels, _ = read_idx_pair(*paths, sha256=named.sha256[split])
    return ImageDataset(images[..., None], labels, named.class_names, named.card, split)


def _load_path(
    path: Path, split: Split, image_size: int | None, stream: bool | None
) -> ImageDataset:
    files = find_idx_files(path, split)
    if files is not None:
        return _load_idx(path, files, split)
    if find_idx_files(path, "test" if split == "train" else "train") is not None:
        raise DataError(f"{path} has no {FILE_STEMS[split][0]}[.gz]; a data set has four IDX files")
    layout = find_layout(path, _EXPECTED, test=split == "test")
    form = folders.choose_format(layout.parts["train"][0], image_size)
    paths, labels = layout.parts[split]
    card = _card_of(path)
    if layout.divided:
        card = dataclasses.replace(card, title=f"{card.title} (split 4:1 by chance)")
    images = StreamedImages(paths, form)
    size = math.prod(images.shape)
    if stream is None and (stream := needs_streaming(size)):
        _log.info(
            "%s, %s: %d pictures would take %.1f GB decoded, more than a third of the memory that "
            "is free, so they are streamed from the disk (--no-stream reads them all the same)",
            path,
            split,
            len(paths),
            size / 1e9,
        )
    return ImageDataset(images if stream else images[:], labels, layout.class_names, card, split)


def _load_idx(path: Path, files: tuple[Path, Path], split: Split) -> ImageDataset:
    images, labels, digests = read_idx_pair(*files)
    named = recognise(digests, split)
    other: Split = "train" if split == "test" else "test"
    other_files = find_idx_files(path, other)
    if named is not None and other_files is not None:
        # both splits must have the same names and card
        named = named if recognise(read_idx_pair(*other_files)[2], other) is named else None
    if named is not None:
        return ImageDataset(images[..., None], labels, named.class_names, named.card, split)
    largest = int(labels.max())
    if split == "test" and (train_files := find_idx_files(path, "train")) is not None:
        train_largest = int(read_idx_pair(*train_files)[1].max())
        if largest > train_largest:
            raise DataError(
                f"{files[1]} holds label {largest}, but the training labels end at {train_largest}"
            )
        largest = train_largest
    names = tuple(str(label) for label in range(largest + 1))
    return ImageDataset(images[..., None], labels, names, _card_of(path), split)


def _card_of(path: Path) -> DatasetCard:
    """A card that promises nothing: an unknown data set is neither flipped nor moved."""
    title = path.resolve().name or "images"
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    slug = slug or re.sub(r"[\W_]+", "-", title.lower()).strip("-")  # in letters of its own
    return DatasetCard(name=slug or "images", title=title)
