import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fmnist_aug import load_dataset
from fmnist_aug.comparison.sharing import dump, share_images


@pytest.fixture
def images():
    return load_dataset("fashion-mnist", "test")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has such memory")
def test_a_process_that_is_started_maps_the_images_themselves(images):
    shared = share_images(images)
    assert shared.fingerprint() == images.fingerprint()
    few = shared.subset(np.arange(3))
    text, descriptors = dump({"all": shared, "again": shared, "few": few})
    assert len(text) < shared.labels.nbytes + few.images.nbytes + 5000
    code = (
        "import pickle, sys\n"
        "found = pickle.load(sys.stdin.buffer)\n"
        "print(found['all'].fingerprint(), found['few'].fingerprint())\n"
        "found['again'].images[0] = 7\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, pass_fds=descriptors, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().split() == [images.fingerprint(), few.fingerprint()]
    assert (shared.images[0] == 7).all()
    assert not (images.images[0] == 7).all()


def test_without_such_memory_the_images_are_sent(images, monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    few = images.subset(np.arange(20))
    assert share_images(few) is few
    text, descriptors = dump(few)
    assert descriptors == []
    assert pickle.loads(text).fingerprint() == few.fingerprint()
