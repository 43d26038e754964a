"""The named data sets: where their files are, what they must contain, what may be done to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fmnist_aug.data.dataset import DatasetCard

PACKAGED_ROOT = Path(__file__).parent / "packaged"


@dataclass(frozen=True)
class NamedDataset:
    """A published data set.

    Attributes:
        card: what may be done to the images.
        folder: its folder's name in torchvision's layout, ``ROOT/<folder>/raw``.
        class_names: in the order of the labels.
        sha256: for each split, the SHA-256 of the decompressed images and labels.
    """

    card: DatasetCard
    folder: str
    class_names: tuple[str, ...]
    sha256: dict[str, tuple[str, str]]


FASHION_MNIST = NamedDataset(
    card=DatasetCard(
        name="fashion-mnist",
        title="Fashion-MNIST",
        flip=True,
        policy="erasing",
        focus=(0, 6),
        dark_background=True,
        licence="MIT, Zalando SE",
    ),
    folder="FashionMNIST",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    sha256={
        "train": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "test": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    },
)

MNIST = NamedDataset(
    card=DatasetCard(
        name="mnist",
        title="MNIST",
        shift=2,
        policy="geometric",
        dark_background=True,
        licence="CC BY-SA 3.0, Y. LeCun, C. Cortes, C. Burges",
    ),
    folder="MNIST",
    class_names=tuple("0123456789"),
    sha256={
        "train": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "test": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    },
)

NAMED_DATASETS = {named.card.name: named for named in (FASHION_MNIST, MNIST)}


def recognise(digests: tuple[str, str], split: str) -> NamedDataset | None:
    """The named data set whose ``split`` has these files' SHA-256, wherever they were found."""
    for named in NAMED_DATASETS.values():
        if named.sha256[split] == digests:
            return named
    return None
