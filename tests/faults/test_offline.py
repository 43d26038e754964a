"""No network at import or at work, even where a proxy is set."""

import os
import socket

import pytest

pytestmark = pytest.mark.fault(17)

BLOCKED = """
import socket, sys

attempts = []

def refuse(*arguments, **_):
    attempts.append(arguments)
    raise OSError("no network")

class NoSocket(socket.socket):
    __init__ = connect = refuse

socket.socket, socket.getaddrinfo, socket.create_connection = NoSocket, refuse, refuse

import numpy as np
import fmnist_aug
from fmnist_aug import AugmentedDataset, AugmentationSampler, ConfusionPlan, load_dataset
from fmnist_aug.augment import POLICIES

for name in fmnist_aug.__all__:
    getattr(fmnist_aug, name)
data = load_dataset("fashion-mnist", "test").subset(np.arange(20))
plan = ConfusionPlan(data.class_names, (), (0.5,) * 10, "buttons", "for a test")
augmented = AugmentedDataset(data, plan)
for index in AugmentationSampler(data, plan):
    augmented[index]
assert not attempts, attempts
print(len(POLICIES), "policies")
"""


def test_import_and_augmentation_open_no_socket(python):
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **proxies}
    environment.pop("NO_ALBUMENTATIONS_UPDATE", None)
    done = python(BLOCKED, env=environment)
    assert "policies" in done.stdout
    assert not done.stderr


def test_no_test_may_reach_out():
    with socket.socket() as one, pytest.raises(AssertionError, match="tried to connect"):
        one.connect(("192.0.2.1", 9))


def test_a_missing_data_set_says_what_to_do_without_trying_to_get_it(python):
    code = (
        BLOCKED.split("import numpy")[0]
        + "from fmnist_aug.cli import main\nsys.argv[0] = 'fmnist-aug'\nmain()"
    )
    done = python(code, "data", "info", "--dataset", "cifar10", code_expected=2)
    assert "neither a known name (fashion-mnist, mnist) nor an existing folder" in done.stderr
