import os
import signal
import socket

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; their children inherit this
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
from fault_table import (  # noqa: F401  # hooks, which pytest finds here
    pytest_configure,
    pytest_itemcollected,
    pytest_runtest_call,
    pytest_terminal_summary,
)
from hypothesis import settings

from fmnist_aug.data import load_dataset, write_idx_folder

# a loaded machine makes any deadline flaky; on CI the same cases are tried each time
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing here may need a network; local sockets between processes are fine."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A slice of the real data as an IDX folder: as the user's own data, quick to train on."""
    folder = tmp_path_factory.mktemp("small")
    for split, size in (("train", 600), ("test", 300)):
        write_idx_folder(load_dataset("fashion-mnist", split).subset(np.arange(size)), folder)
    return folder


@pytest.fixture(scope="session")
def noisy(small, tmp_path_factory):
    """The same folder, with noise in place of the test images and of their labels."""
    folder = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(0)
    for path in sorted(small.iterdir()):
        content = bytearray(path.read_bytes())
        if path.name.startswith("t10k-"):
            start, top = (16, 256) if "images" in path.name else (8, 10)
            content[start:] = rng.integers(0, top, len(content) - start, np.uint8).tobytes()
        (folder / path.name).write_bytes(content)
    return folder
