import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

from fmnist_aug import AugmentationSampler, AugmentedDataset, ConfusionPlan
from fmnist_aug.data import load_dataset, write_idx_folder
from fmnist_aug.errors import DataError
from fmnist_aug.labels import find_labels

LABELS = [2, 0, 1, 2]

# where torchvision 0.25 and later keep what they give out as labels
STORES = {
    "targets": (tv.KMNIST, tv.EMNIST, tv.USPS, tv.LFWPeople, tv.Places365, tv.CIFAR10, tv.CIFAR100),
    "labels": (tv.SVHN, tv.STL10, tv.SEMEION),
    "_labels": (tv.DTD, tv.FGVCAircraft, tv.Flowers102, tv.Food101, tv.OxfordIIITPet, tv.SUN397),
    "y": (tv.Caltech101, tv.Caltech256),
    "_samples": (tv.GTSRB, tv.Imagenette, tv.RenderedSST2, tv.StanfordCars, tv.FER2013),
    "samples": (tv.ImageNet, tv.EuroSAT, tv.Country211, tv.DatasetFolder),
    "_flat_character_images": (tv.Omniglot,),
}


class NeverDecoded:
    """Mixed into a data set, so that asking for an item fails the test."""

    def __getitem__(self, index):
        raise AssertionError("an image was decoded")

    def __len__(self):
        return len(LABELS)


def without_files(kind, **attributes):
    """A torchvision data set of that class as its constructor would leave it."""
    made = object.__new__(type(kind.__name__, (NeverDecoded, kind), {}))
    made.__dict__.update(attributes)
    return made


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in STORES.items() for kind in kinds]
)
def test_labels_are_found_in_every_kind_of_torchvision_data_set(name, kind):
    pairs = "sample" in name or "images" in name
    stored = [("path", label) for label in LABELS] if pairs else LABELS
    assert find_labels(without_files(kind, **{name: stored})).tolist() == LABELS
    moved = without_files(kind, **{name: stored}, target_transform=lambda label: label + 1)
    assert find_labels(moved).tolist() == [3, 1, 2, 3]


def test_the_attributes_above_are_those_that_torchvision_sets():
    import inspect

    for name, kinds in STORES.items():
        for kind in kinds:
            source = "".join(inspect.getsource(base) for base in kind.__mro__[:-1])
            assert f"self.{name}" in source, (kind, name)


def test_labels_that_are_stored_in_an_unusual_way():
    table = torch.tensor([[label, 9, 9] for label in LABELS])
    assert find_labels(without_files(tv.QMNIST, targets=table)).tolist() == LABELS
    index = [(label, "file") for label in LABELS]
    found = find_labels(without_files(tv.INaturalist, index=index, target_type=["full"]))
    assert found.tolist() == LABELS
    with pytest.raises(DataError, match="give them"):
        find_labels(without_files(tv.INaturalist, index=index, target_type=["genus"]))


@pytest.fixture
def folder(tmp_path):
    for name, count in (("cat", 3), ("dog", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_real_data_sets_and_what_wraps_them(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for split in ("train", "test"):  # torchvision asks for all four files
        part = load_dataset("mnist", split).subset(np.arange(5))
        write_idx_folder(part, root / "MNIST" / "raw")
    mnist = tv.MNIST(root, train=False)
    pictures = tv.ImageFolder(folder)
    assert (find_labels(mnist) == mnist.targets.numpy()).all()
    assert find_labels(pictures).tolist() == [0, 0, 0, 1, 1]
    tensors = TensorDataset(torch.zeros(3, 1, 8, 8), torch.tensor([[4], [5], [6]]))
    both = ConcatDataset([pictures, Subset(mnist, [3, 2]), tensors])
    nested = Subset(Subset(both, [9, 5, 4, 0]), torch.tensor([2, 1, 0]))
    expected = [1, int(mnist.targets[3]), 6]
    assert find_labels(nested).tolist() == expected
    assert find_labels(AugmentedDataset(nested)).tolist() == expected
    first, second = random_split(pictures, [2, 3])
    assert sorted([*find_labels(first), *find_labels(second)]) == [0, 0, 0, 1, 1]
    plan = ConfusionPlan(("cat", "dog"), (), (1.0, 0.0), "none", "a test")
    assert len(AugmentationSampler(pictures, plan)) == 5 + 3


def test_items_of_the_data_set_have_the_labels_that_are_found(folder):
    pictures = tv.ImageFolder(folder, target_transform=lambda label: 1 - label)
    for data in (pictures, Subset(pictures, [4, 0]), ConcatDataset([pictures, pictures])):
        assert find_labels(data).tolist() == [label for _, label in data]


def test_what_has_no_labels_is_said_and_not_guessed():
    class Nothing(Dataset):
        def __len__(self):
            return 3

    class Wrong(Nothing):
        targets = (1, 2)

    with pytest.raises(DataError, match="FakeData"):
        find_labels(tv.FakeData(4))
    with pytest.raises(DataError, match="Nothing"):
        find_labels(ConcatDataset([TensorDataset(torch.arange(2)), Nothing()]))
    with pytest.raises(DataError, match="found 2 labels in a Wrong of 3 items"):
        find_labels(Wrong())
    with pytest.raises(DataError, match="negative"):  # how STL10 marks images without a label
        find_labels(without_files(tv.STL10, labels=np.array([-1, 0, 1, 2])))
    with pytest.raises(DataError, match="whole numbers"):
        find_labels(without_files(tv.FER2013, _samples=[("path", None)] * 4))
    for image in (np.zeros((8, 8)), torch.zeros(1, 8, 8), Image.new("L", (8, 8))):
        with pytest.raises(DataError, match=r"this list are pairs .*give the labels alone"):
            find_labels([(image, 1), (image, 0)])
    with pytest.raises(DataError, match="CelebA"):
        find_labels(without_files(tv.CelebA, attr=torch.zeros(4, 40)))
