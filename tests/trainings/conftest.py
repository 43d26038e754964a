"""What the tests of trainings have in common."""

import pytest

from fmnist_aug import load_dataset
from fmnist_aug.data import stratified_slice


@pytest.fixture(scope="module")
def garments():
    return stratified_slice(load_dataset("fashion-mnist", "train"), 600)
