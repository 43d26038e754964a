"""A trained network with everything needed to use it, and its checkpoint file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.data import Images, StreamedImages, blocks
from fmnist_aug.errors import CheckpointError, DataError, FmnistAugError
from fmnist_aug.files import write_bytes
from fmnist_aug.models import create_model

SCHEMA = 1
VIEWS = ("identity", "flip", "shift")
_SHIFTED = 0.4
"""Weight of the moved images where they count in full, chosen on held-out images …"""
_SURE = 0.5
"""… and the lead of the most likely class over the next, in probability, from which on they count
for nothing: they would change no prediction there (of 50,000 held-out ones), and one image in nine
has less. They count in full from half of it down, and ever less in between, without a jump."""
MAX_SIDE = 4096
"""Longest side in pixels of the images of a network."""
BATCH_SIZE = 500
"""Images at a time when predicting; one size everywhere, so that results repeat to the bit."""


@dataclass(frozen=True)
class CheckpointHeader:
    """What must be known besides the weights.

    Attributes:
        model: the network's name, for `create_model`.
        class_names: one name a logit.
        image_size: height and width in pixels.
        mean: of each channel, on the scale 0–255; subtracted first.
        std: of each channel, on the scale 0–255; divided by.
        views: test-time views whose logits are averaged: ``identity``; ``flip``, the mirrored
            image; ``shift``, the image moved by one pixel up, down, left and right (with ``flip``
            two of the four mirrored), each up to a tenth of the average. Moved images count where
            the other views leave doubt: in full where the most likely class leads the next by at
            most 25 points of probability, not at all from 50 on.
        card: name of the data set that it was trained on.
        fingerprint: SHA-256 of the training data.
        confusions: counts on held-out training images, rows = true, columns = predicted; empty
            if none were measured.
        confusions_source: what they were measured with, in a sentence.
    """

    model: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    views: tuple[str, ...]
    card: str = ""
    fingerprint: str = ""
    confusions: tuple[tuple[int, ...], ...] = ()
    confusions_source: str = ""

    @property
    def confusion_report(self) -> ConfusionReport | None:
        """The held-out confusions with names; None if none were measured."""
        return ConfusionReport(self.confusions, self.class_names) if self.confusions else None


class Classifier:
    """Predicts classes of uint8 images; normalisation and test-time views are its own.

    Args:
        model: a network that takes normalised (N, C, H, W).
        header: how images are prepared for it.
        device: where it runs.
    """

    def __init__(self, model: nn.Module, header: CheckpointHeader, device: str = "cpu") -> None:
        self.header = header
        self.device = torch.device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalise = Normalisation(header.mean, header.std, self.device)

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class, in the order of the columns of the predictions."""
        return self.header.class_names

    def predict_logits(self, images: Images) -> NDArray[np.float32]:
        """Logits float32 (N, classes), averaged over the test-time views, in float32 precision.

        Args:
            images: uint8 (N, H, W, C) or (N, H, W), 0–255, of the size trained on.

        Raises:
            DataError: the images have another type, size or number of channels.
        """
        images = self._check(images)
        was_training = self.model.training
        self.model.eval()
        parts = []
        with torch.inference_mode():
            for block in blocks(images, BATCH_SIZE):
                batch = torch.from_numpy(block).to(self.device)
                inputs = self.normalise(batch.permute(0, 3, 1, 2))
                parts.append(self.average_views(inputs).cpu().numpy())
        self.model.train(was_training)
        if not parts:
            return np.zeros((0, len(self.class_names)), np.float32)
        return np.concatenate(parts)

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        """Probabilities float32 (N, classes): the softmax of `predict_logits`."""
        return softmax(self.predict_logits(images))

    def predict(self, images: Images) -> NDArray[np.int64]:
        """Class indices int64 (N,)."""
        return np.asarray(self.predict_logits(images).argmax(axis=1))

    def with_confusions(self, report: ConfusionReport, source: str) -> Classifier:
        """The same network, with held-out confusions kept in its header.

        Args:
            report: of images that were not trained on, with this classifier's classes.
            source: what they were measured with, in a sentence.

        Raises:
            DataError: the report is of other classes.
        """
        if report.class_names != self.class_names:
            raise DataError(
                f"the confusions are of the classes {', '.join(report.class_names[:10])}, not of "
                f"{', '.join(self.class_names[:10])}"
            )
        header = replace(self.header, confusions=report.counts, confusions_source=source)
        return Classifier(self.model, header, str(self.device))

    def save(self, path: str | Path) -> None:
        """Write weights and header as one safetensors file.

        Args:
            path: the file to write.

        Raises:
            RunFolderError: the file can't be written.
        """
        write_bytes(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """Weights and header as they stand in a checkpoint."""
        return encode_tensors(self.model.state_dict(), "classifier", asdict(self.header))

    def average_views(self, inputs: Tensor) -> Tensor:
        """Logits (N, classes) of normalised (N, C, H, W), averaged over the test-time views."""

        def logits_of(images: Tensor) -> Tensor:
            images = images.contiguous(memory_format=torch.channels_last)
            logits: Tensor = self.model(images).float()
            return logits

        def moved_logits(images: Tensor) -> Tensor:
            height, width = images.shape[2:]
            padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
            total = torch.zeros((), device=images.device)
            # one each way as it is and one mirrored: all mirrored too would cost more than they add
            for x, y, mirrored in ((1, 0, False), (1, 2, True), (0, 1, True), (2, 1, False)):
                moved = padded[:, :, y : y + height, x : x + width]
                total = total + logits_of(moved.flip(3) if mirrors and mirrored else moved)
            return total / 4

        mirrors = "flip" in self.header.views
        logits = logits_of(inputs)
        if mirrors:
            logits = (logits + logits_of(inputs.flip(3))) / 2
        if "shift" not in self.header.views or logits.shape[1] < 2:
            return logits
        first, second = logits.softmax(dim=1).topk(2).values.unbind(dim=1)
        weight = _SHIFTED * (2 - 2 * (first - second) / _SURE).clamp(0, 1)
        if torch.compiler.is_compiling():  # a recorded network can't leave any image out
            return torch.lerp(logits, moved_logits(inputs), weight[:, None])
        unsure = weight.nonzero()[:, 0]
        if not len(unsure):
            return logits
        own, weight = logits[unsure], weight[unsure, None]
        return logits.index_copy(0, unsure, torch.lerp(own, moved_logits(inputs[unsure]), weight))

    def _check(self, images: Images) -> Images:
        if not isinstance(images, StreamedImages):
            images = np.asarray(images)
            images = images[..., None] if images.ndim == 3 else images
        expected = (*self.header.image_size, len(self.header.mean))
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise DataError(
                f"this classifier takes uint8 images (N, {expected[0]}, {expected[1]}, "
                f"{expected[2]}), not {images.dtype} {images.shape}"
            )
        if isinstance(images, StreamedImages):
            return images
        if images.flags.writeable and min(images.strides) >= 0:
            return images
        return images.copy()  # torch wants writable arrays, and none that run backwards


class Normalisation:
    """From uint8 or float 0–255 to float with mean 0 and standard deviation 1 a channel.

    Args:
        mean: of each channel, on the scale 0–255.
        std: of each channel, on the scale 0–255.
        device: where the images are.
    """

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
    ) -> None:
        self.mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, -1, 1, 1)
        # of one channel the deviation is a number, so that one pass over the images does for both
        self._once = (-self.mean / self.std, 1 / std[0]) if len(std) == 1 else None

    def __call__(self, images: Tensor, *, inplace: bool = False) -> Tensor:
        """Normalise (N, C, H, W) into channels-last float32.

        Args:
            images: uint8 or float, values 0–255.
            inplace: float32 images may be overwritten: half of the memory traffic.
        """
        inputs = images.float()
        if inputs is images and not inplace:
            inputs = images.clone()
        if self._once is None:
            inputs.sub_(self.mean).div_(self.std)
        else:
            offset, factor = self._once
            torch.add(offset, inputs, alpha=factor, out=inputs)
        return inputs.contiguous(memory_format=torch.channels_last)


def load_classifier(path: str | Path, device: str = "cpu") -> Classifier:
    """Read a checkpoint that this package wrote; no code in it is ever run.

    Args:
        path: a ``.safetensors`` file.
        device: where to run it.

    Raises:
        CheckpointError: the file is missing, cut, not ours, or doesn't fit the network it names.
    """
    path = Path(path)
    tensors, kind, value = read_tensors(path)
    if kind != "classifier":
        raise CheckpointError(f"{path} holds no trained classifier")
    try:
        header = CheckpointHeader(**{key: _with_tuples(item) for key, item in value.items()})
        _check_header(header)
        _ = header.confusion_report  # raises if it doesn't fit the classes
        _check_shapes(header, tensors)
        with torch.random.fork_rng():
            model = create_model(
                header.model, len(header.class_names), len(header.mean), header.image_size
            )
        model.load_state_dict(tensors)
    except (TypeError, ValueError, AttributeError, RuntimeError, FmnistAugError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} doesn't fit this version: {reason[:300]}") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise CheckpointError(f"{path} holds weights that are not finite; train again")
    return Classifier(model, header, device)


def _check_header(header: CheckpointHeader) -> None:
    """Refuse values that would be misunderstood without a word, or crash far from here."""
    if not set(header.views) <= set(VIEWS):
        raise ValueError(f"unknown test-time views {header.views}")
    names = header.class_names
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("no class names")
    size = header.image_size
    if len(size) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in size):
        raise ValueError(f"images of size {size}")
    channels = (header.mean, header.std)
    if len(header.mean) not in (1, 3) or len(header.std) != len(header.mean):
        raise ValueError(f"normalisation of {len(header.mean)} channels")
    if not all(math.isfinite(value) for values in channels for value in values):
        raise ValueError("normalisation that is not finite")
    if min(header.std) <= 0:
        raise ValueError("a standard deviation that is not positive")


def _check_shapes(header: CheckpointHeader, tensors: dict[str, Tensor]) -> None:
    """Compare with the network that the header names before memory is spent on it."""
    if len(header.class_names) > max(
        (len(value) for value in tensors.values() if value.ndim), default=0
    ):
        raise ValueError("more class names than logits")
    with torch.device("meta"):
        model = create_model(
            header.model, len(header.class_names), len(header.mean), header.image_size
        )
    for name, value in model.state_dict().items():
        found = tensors.get(name)
        if found is None or (found.shape, found.dtype) != (value.shape, value.dtype):
            raise ValueError(f"{name} is not {value.dtype} {tuple(value.shape)}")


def write_tensors(path: Path, tensors: dict[str, Tensor], kind: str, header: Any) -> None:
    """Write tensors and a JSON header as one safetensors file, whole or not at all."""
    write_bytes(path, encode_tensors(tensors, kind, header))


def encode_tensors(tensors: dict[str, Tensor], kind: str, header: Any) -> bytes:
    """What `write_tensors` writes."""
    from safetensors.torch import save

    # row-major copies: safetensors stores no strides
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {
        "format": "fmnist-aug",
        "schema": str(SCHEMA),
        "kind": kind,
        "header": json.dumps(header, allow_nan=False),
    }
    metadata["sha256"] = _digest(plain, metadata)
    return bytes(save(plain, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str, Any]:
    """Read what `write_tensors` wrote: tensors, kind and header.

    Raises:
        CheckpointError: the file is missing, cut, or not ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if path.is_dir():  # of which safetensors says "no such device"
            raise IsADirectoryError("it is a folder; name a file")
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError) as error:
        # the latter two: types of tensors that this torch doesn't know
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    if metadata.get("format") != "fmnist-aug":
        raise CheckpointError(f"{path} was not written by fmnist-aug")
    if metadata.get("schema") != str(SCHEMA):
        raise CheckpointError(
            f"{path} has schema {metadata.get('schema')}, this version reads {SCHEMA}; use the "
            "fmnist-aug that wrote it"
        )
    digest = metadata.pop("sha256", None)
    if digest is not None and digest != _digest(tensors, metadata):
        raise CheckpointError(f"{path} was changed or damaged after it was written")
    try:
        return tensors, metadata["kind"], json.loads(metadata["header"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged header ({error!r})") from error


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples, so they come back as lists."""
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list) else value


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 (hex) of everything in a file: safetensors has no checksum of its own."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis, float32."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
