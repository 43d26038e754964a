import subprocess
import sys

import numpy as np
import pytest
import torch

from fmnist_aug import ConfusionPlan, ConfusionReport, create_model
from fmnist_aug.classifier import CheckpointHeader, Classifier

NAMES = ("cat", "dog", "eel")


@pytest.fixture(scope="session")
def classifier():
    """Untrained, which is all the same to files."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("fast-cnn", 3, 1, (8, 8))
    header = CheckpointHeader("fast-cnn", NAMES, (8, 8), (1.0,), (2.0,), ("identity",))
    return Classifier(model, header)


@pytest.fixture(scope="session")
def plan():
    report = ConfusionReport(((8, 2, 0), (1, 9, 0), (0, 0, 10)), NAMES)
    return ConfusionPlan.from_report(report, [(0, 1)])


@pytest.fixture(scope="session")
def logits():
    return np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


@pytest.fixture
def python():
    """Runs code in a process of its own, which may be limited, blocked or killed."""

    def run(code, *arguments, code_expected=0, **more):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            **more,
        )
        assert done.returncode == code_expected, done.stderr
        return done

    return run
