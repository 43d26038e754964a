"""Feed mutated files to the readers, guided by coverage: only documented errors may come out.

    pip install atheris
    python examples/fuzz_readers.py --seconds 600 --inputs 1000000

The first byte of an input picks the reader: IDX (plain and gzip), checkpoint, plan, predictions.
atheris (libFuzzer) keeps the inputs that reach new branches of these modules and mutates them
further. Prints how many inputs were tried and how far memory grew.
"""

from __future__ import annotations

import argparse
import gzip
import io
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import atheris
import numpy as np
import torch

with atheris.instrument_imports(include=["fmnist_aug", "zipfile", "gzip", "json"]):
    from fmnist_aug import ConfusionPlan, ConfusionReport
    from fmnist_aug.classifier import load_classifier, read_tensors, write_tensors
    from fmnist_aug.comparison.folder import ComparisonFolder
    from fmnist_aug.data.idx import read_idx
    from fmnist_aug.errors import FmnistAugError

SHARED_MEMORY = Path("/dev/shm")


def megabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Readers:
    """The readers, each behind a file in memory, and what was seen."""

    def __init__(self, folder: Path, seconds: float, inputs: float) -> None:
        self.folder = folder
        self.comparison = ComparisonFolder(folder / "comparison")
        self.comparison.predictions("baseline", 0).parent.mkdir(parents=True)
        self.stop = time.monotonic() + seconds
        self.inputs = inputs
        self.tried = self.refused = 0
        self.idle = megabytes()

    def one(self, content: bytes) -> None:
        """Give one input to one reader."""
        if time.monotonic() > self.stop or self.tried >= self.inputs:
            self.tell()
            sys.stdout.flush()
            shutil.rmtree(self.folder)
            os._exit(0)  # libFuzzer doesn't return, and takes an exception for a finding
        kind, content = content[0] % 5 if content else 0, content[1:]
        self.tried += 1
        try:
            self._read(kind, content)
        except FmnistAugError:
            self.refused += 1

    def _read(self, kind: int, content: bytes) -> None:
        if kind == 2:
            ConfusionPlan.from_json(content.decode(errors="replace")).to_table()
            return
        path = self.folder / ("x.gz" if kind == 1 else "x")
        if kind == 4:
            path = self.comparison.predictions("baseline", 0)
        path.write_bytes(content)
        if kind in (0, 1):
            read_idx(path, 3 if len(content) % 2 else 1)
        elif kind == 3:
            read_tensors(path)
            load_classifier(path)
        else:
            self.comparison.load_logits("baseline", 0)

    def tell(self) -> None:
        """Print the figures."""
        print(
            f"{self.tried} inputs, {self.refused} refused with a documented error, the others "
            f"read; memory grew by {megabytes() - self.idle:.0f} MB above {self.idle:.0f} MB"
        )


def seeds(folder: Path) -> None:
    """Valid files to begin with."""
    header = b"\0\0\x08\x01\0\0\0\x03"
    report = ConfusionReport(((3, 1), (0, 4)), ("a", "b"))
    stream = io.BytesIO()
    np.savez(stream, logits=np.zeros((2, 2), np.float32), labels=np.zeros(2, np.int64))
    write_tensors(folder / "tensors", {"a": torch.zeros(2)}, "classifier", {"model": "fast-cnn"})
    contents = [
        header + b"\1\2\3",
        gzip.compress(header + b"\1\2\3"),
        ConfusionPlan.from_report(report, [(0, 1)]).to_json().encode(),
        (folder / "tensors").read_bytes(),
        stream.getvalue(),
    ]
    (folder / "tensors").unlink()
    for kind, content in enumerate(contents):
        (folder / f"seed-{kind}").write_bytes(bytes([kind]) + content)


def main() -> None:
    """Fuzz for the time asked for; an undocumented error ends it with the input that caused it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--inputs", type=float, default=math.inf, help="Stop after so many.")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    # files in memory where there are some: the readers are fuzzed, not the disk
    memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=memory) as work,  # removed by hand, see `Readers.one`
        tempfile.TemporaryDirectory(dir=memory) as corpus,
    ):
        seeds(Path(corpus))
        readers = Readers(Path(work), arguments.seconds, arguments.inputs)
        options = [f"-seed={arguments.seed}", "-max_len=2048", "-rss_limit_mb=0", "-verbosity=0"]
        atheris.Setup(
            [sys.argv[0], *options, f"-max_total_time={arguments.seconds + 30:.0f}", corpus],
            readers.one,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
