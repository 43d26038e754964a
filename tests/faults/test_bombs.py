"""Small files that claim or unpack to far more than they may, read with little memory to spare."""

import gzip
import io
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest

from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.data.folders import choose_format
from fmnist_aug.errors import DataError, RunFolderError

pytestmark = pytest.mark.fault(2)

MAGIC = {1: b"\0\0\x08\x01", 3: b"\0\0\x08\x03"}

READ = """
import resource, sys
from pathlib import Path
from fmnist_aug.data.idx import read_idx
from fmnist_aug.errors import DataError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
for name in sys.argv[1:]:
    try:
        read_idx(Path(name), 1 if "labels" in name else 3)
    except DataError as error:
        print(error)
"""


def header(*sizes):
    return MAGIC[len(sizes)] + b"".join(size.to_bytes(4) for size in sizes)


FORGED = {
    "images-that-go-on": ((10, 28, 28), "holds more"),
    "images-by-the-billion": ((2**32 - 1, 28, 28), "header asks for"),
    "images-without-end": ((2**32 - 1,) * 3, "header asks for"),
    "images-that-would-fit": ((1 << 18, 28, 28), "would grow"),
    "no-images": ((0, 28, 28), "header asks for"),
    "labels-by-the-billion": ((2**32 - 1,), "would grow"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and read as on Linux")
def test_reading_stops_at_the_cap_with_little_memory(tmp_path, python, record_property):
    for name, (sizes, _) in FORGED.items():
        packer = zlib.compressobj(9, wbits=31)
        parts = [packer.compress(header(*sizes))]
        parts += [packer.compress(bytes(1 << 20)) for _ in range(80)]
        (tmp_path / f"{name}.gz").write_bytes(b"".join(parts) + packer.flush())
    (tmp_path / "labels-unpacked").write_bytes(header(2**32 - 1) + bytes(1000))
    expected = {f"{name}.gz": said for name, (_, said) in FORGED.items()}
    expected["labels-unpacked"] = "holds only 1000"
    paths = [tmp_path / name for name in expected]
    lines = python(READ, *paths).stdout.splitlines()
    for line, path, said in zip(lines, paths, expected.values(), strict=True):
        assert str(path) in line
        assert said in line
    record_property("cases", len(lines))


def test_images_that_pack_well_are_no_bomb(tmp_path):
    from fmnist_aug.data.idx import read_idx

    path = tmp_path / "black.gz"
    path.write_bytes(gzip.compress(header(2000, 28, 28) + bytes(2000 * 784)))
    assert read_idx(path, 3)[0].shape == (2000, 28, 28)


def npy(shape, payload, dtype="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return stream.getvalue() + payload


@pytest.mark.parametrize(
    ("member", "compression"),
    [
        (npy((10**12, 10), b""), zipfile.ZIP_STORED),
        (npy((1 << 22, 10), bytes(10 << 20)), zipfile.ZIP_DEFLATED),
        (npy((2, 3), bytes(24), "|O"), zipfile.ZIP_STORED),
        (b"no array", zipfile.ZIP_STORED),
    ],
    ids=["forged shape", "packed", "objects", "text"],
)
def test_predictions_that_claim_too_much(tmp_path, member, compression):
    folder = ComparisonFolder(tmp_path)
    path = folder.predictions("baseline", 0)
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("logits.npy", member)
        archive.writestr("labels.npy", npy((2,), bytes(16), "<i8"))
    with pytest.raises(RunFolderError, match=r"baseline-0\.npz"):
        folder.load_logits("baseline", 0)


def test_a_picture_that_claims_to_be_huge(tmp_path):
    def chunk(kind, content):
        tail = kind + content
        return struct.pack(">I", len(content)) + tail + struct.pack(">I", zlib.crc32(tail))

    path = tmp_path / "huge.png"
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0"))
    )
    with pytest.raises(DataError, match=r"huge\.png: is too large"):
        choose_format([path])


def test_a_picture_cannot_start_a_program(tmp_path):
    path = tmp_path / "script.png"  # Pillow would hand it to Ghostscript
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="is not a picture"):
        choose_format([path])
