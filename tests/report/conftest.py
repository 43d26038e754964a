"""A comparison on real images, with made-up logits, and its page."""

from __future__ import annotations

import numpy as np
import pytest

from fmnist_aug.data import load_dataset
from fmnist_aug.report import write_report
from report.made_up import make_logits, make_results, make_samples


@pytest.fixture(scope="module")
def fashion():
    test = load_dataset("fashion-mnist", "test")
    test = test.subset(np.arange(2000))
    logits = make_logits(test, swap=(0, 6))
    return test, logits, make_results(test, logits, focus=(0, 6))


@pytest.fixture(scope="module")
def page(fashion, tmp_path_factory):
    test, logits, results = fashion
    folder = tmp_path_factory.mktemp("run")
    path = write_report(folder, results, test, logits, make_samples(test, 4, 9))
    return folder, path.read_text(encoding="utf-8")
