"""Image folders: ``PATH/{train,test}/CLASS/*``, of any size, grey or colour."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist_aug.errors import DataError, FmnistAugError

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Only these decoders see a file, whatever it is called: others start programs, as EPS does."""
UNREADABLE = frozenset({".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".tga", ".dng"})
"""Pictures as well, but not for us: they are never passed over in silence."""
MOST_NAMED = 3
MAX_SIDE = 64
"""Longest side in pixels to which larger pictures are reduced, unless a size is asked for."""
LAYOUT = (
    "PATH/train/CLASS/* and PATH/test/CLASS/* with one folder of pictures a class (or "
    "PATH/CLASS/*, to be divided by chance)"
)


def list_classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in ``folder``, sorted; hidden folders don't count.

    Raises:
        DataError: the folder can't be read.
    """
    try:
        entries = [entry for entry in folder.iterdir() if entry.is_dir()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from error
    return tuple(sorted(entry.name for entry in entries if not entry.name.startswith(".")))


def is_picture(path: Path) -> bool:
    """Whether it is a file that is called like a picture and is not hidden."""
    return path.suffix.lower() in EXTENSIONS and path.is_file() and path.name[0] != "."


def list_pictures(folder: Path) -> list[Path]:
    """The pictures in ``folder`` and its subfolders, linked ones too, in a fixed order.

    Raises:
        DataError: there are pictures of a kind that can't be read, or a folder can't be.
    """
    entries = sorted(_walk(folder))
    unreadable = [path for path in entries if path.suffix.lower() in UNREADABLE]
    if unreadable:
        raise DataError(
            f"{name_some(unreadable)}: {unreadable[0].suffix} can't be read; convert to JPEG or "
            "PNG, or remove"
        )
    return [path for path in entries if is_picture(path)]


def _walk(folder: Path) -> Iterator[Path]:
    """What lies in a folder and below, without what is hidden; no folder twice, as links may be."""

    def refuse(error: OSError) -> None:
        reason = error.strerror or error
        raise DataError(f"{error.filename}: cannot be read ({reason})") from error

    known = {os.path.realpath(folder)}
    for where, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        yield from (Path(where, name) for name in files if not name.startswith("."))
        below = {
            os.path.realpath(Path(where, name)): name
            for name in sorted(folders, reverse=True)
            if not name.startswith(".")
        }
        folders[:] = sorted(name for real, name in below.items() if real not in known)
        known |= below.keys()


def name_some(paths: Sequence[Path]) -> str:
    """Some paths in a message: the first ones, and how many more there are."""
    named = ", ".join(map(str, paths[:MOST_NAMED]))
    return named + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")


def list_images(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], NDArray[np.int64]]:
    """Paths and labels of the pictures in the class folders of ``folder``, in a fixed order.

    Raises:
        DataError: no picture at all, or some of a kind that can't be read.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        if not (folder / name).is_dir():
            continue
        found = list_pictures(folder / name)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(f"{folder} holds no pictures; expected {LAYOUT}")
    return paths, np.array(labels, np.int64)


def choose_format(paths: Sequence[Path], side: int | None = None) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) that suit these pictures; only headers are read.

    Pictures of one size no longer than `MAX_SIDE` keep it; others become squares of the median
    longest side, at most `MAX_SIDE`. One colour picture makes all of them colour.

    Raises:
        DataError: a file is no picture.
    """
    sizes: list[tuple[int, int]] = []
    channels = 1

    def look(_: int, image: Image.Image) -> None:
        nonlocal channels
        width, height = image.size
        if image.getexif().get(0x0112, 1) >= 5:  # the camera was held sideways
            width, height = height, width
        sizes.append((height, width))
        if image.mode not in ("1", "L", "LA") and not _is_deep(image):
            channels = 3

    _visit(paths, look)
    if side is None and len(set(sizes)) == 1 and max(sizes[0]) <= MAX_SIDE:
        return *sizes[0], channels
    side = side or min(MAX_SIDE, int(np.median([max(size) for size in sizes])))
    return side, side, channels


def read_images(paths: Sequence[Path], form: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decode pictures into uint8 (N, H, W, C) of the given form.

    A picture of another size is scaled to fit and padded with the mean colour of its border, so
    that nothing is cut off or stretched.

    Greys of 16 bits fill 0 … 65535. Floats and 32-bit integers don't say what is white: it is the
    first of 1 (floats only), 255 and 65535 that no value of the picture exceeds by more than a
    hundredth, or else its largest value. So a picture is the same whatever is read with it, and
    pictures of one kind are alike, except for one that is all but black.

    Raises:
        DataError: a file is no picture, is cut, or holds values that are negative or not finite.
    """
    height, width, channels = form
    images = np.empty((len(paths), height, width, channels), np.uint8)

    def look(position: int, source: Image.Image) -> None:
        image = _eight_bit(source, channels, paths[position])
        if image.size != (width, height):
            image = ImageOps.pad(
                image, (width, height), Image.Resampling.BILINEAR, _border_colour(image)
            )
        images[position] = np.asarray(image).reshape(height, width, channels)

    _visit(paths, look)
    return images


def _visit(paths: Sequence[Path], look: Callable[[int, Image.Image], None]) -> None:
    """Open one picture after the other; all that fail are named together, not one a time."""
    failed: list[Path] = []
    first: DataError | None = None
    for position, path in enumerate(paths):
        try:
            with _decoding(path), _open(path) as image:
                look(position, image)
        except DataError as error:
            failed.append(path)
            first = first or error
    if first is not None:
        more = f"; the same for {name_some(failed[1:])}" if failed[1:] else ""
        raise DataError(f"{first}{more}") from first


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Decoders answer damaged files with whatever error comes up in them, or with warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except FmnistAugError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be decoded ({reason}); replace or remove it") from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    with contextlib.ExitStack() as opened:
        try:
            # opened here, since Pillow leaves files open that it can't read
            stream = opened.enter_context(path.open("rb"))
            image = opened.enter_context(Image.open(stream, formats=FORMATS))
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: is not a picture; replace or remove it") from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: is too large ({error}); reduce or remove it") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        yield image


def _eight_bit(source: Image.Image, channels: int, path: Path) -> Image.Image:
    image = ImageOps.exif_transpose(source)
    if _is_deep(source):
        values = np.asarray(image, np.float32)
        low, top = float(values.min()), float(values.max())
        if not 0 <= low <= top < math.inf:  # both are NaN if one value is
            raise DataError(
                f"{path}: holds values that are negative or not finite; save it with values from "
                "0 to 255, or remove it"
            )
        values = np.minimum(values / _white(source, top), 1.0)
        image = Image.fromarray((values * 255).astype(np.uint8))
    return flatten(image, channels)


def flatten(image: Image.Image, channels: int) -> Image.Image:
    """A picture of 8 bits as grey (1 channel) or RGB (3), on white where it is transparent."""
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image.convert("L" if channels == 1 else "RGB")


def _is_deep(image: Image.Image) -> bool:
    """Whether it is grey with more than 8 bits, of either byte order."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _white(image: Image.Image, top: float) -> float:
    # Pillow brings deep PGM files to 0 … 65535, but calls them 32-bit integers
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return 65535.0
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    # what was interpolated overshoots a little
    return next((white for white in usual if top <= 1.01 * white), top)


def _border_colour(image: Image.Image) -> tuple[int, ...]:
    pixels = np.asarray(image).reshape(image.size[1], image.size[0], -1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(value) for value in border.mean(axis=0).round())
