"""Trained networks whose answers take the place of the labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist_aug.classifier import CheckpointHeader, Classifier, Normalisation, check_fits
from fmnist_aug.data import ImageDataset
from fmnist_aug.errors import DataError
from fmnist_aug.models import create_model
from fmnist_aug.text import counted
from fmnist_aug.training.hardware import Hardware

Answers = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Teacher:
    """Networks that teach another one: it learns the mean of their probabilities, not the labels.

    This is knowledge distillation (Hinton et al., arXiv 1503.02531) at temperature 1. The networks
    are asked about each image as it was augmented and mixed for the one that learns, as Beyer et
    al. advise (arXiv 2106.05237). Made of plain values, so that other processes can be given it.

    Attributes:
        headers: of the networks.
        weights: of each network, by name.
    """

    headers: tuple[CheckpointHeader, ...]
    weights: tuple[dict[str, NDArray[Any]], ...]

    @classmethod
    def of(cls, classifiers: Sequence[Classifier]) -> Teacher:
        """What these classifiers are together; their weights are copied.

        Args:
            classifiers: at least one.

        Raises:
            DataError: they are of different classes, sizes of images or training images.
        """
        headers = tuple(classifier.header for classifier in classifiers)
        for what, values in (
            ("classes", {header.class_names for header in headers}),
            ("sizes of images", {header.image_size for header in headers}),
            ("numbers of channels", {len(header.mean) for header in headers}),
            ("training images", {header.fingerprint for header in headers}),
        ):
            if len(values) > 1:
                raise DataError(
                    f"the teachers were trained with different {what}, so they can't teach together"
                )
        weights = tuple(
            {
                name: tensor.detach().cpu().contiguous().numpy().copy()
                for name, tensor in classifier.model.state_dict().items()
            }
            for classifier in classifiers
        )
        return cls(headers, weights)

    def check(self, dataset: ImageDataset) -> None:
        """Refuse to teach images that these networks can't be asked about.

        Raises:
            DataError: they are of other classes, of another size, or grey instead of coloured.
        """
        check_fits("the teacher", self.headers[0], dataset)

    @property
    def name(self) -> str:
        """Its networks, for people."""
        return counted(header.model for header in self.headers)

    def describe(self) -> list[dict[str, str]]:
        """Of each network its name, and the SHA-256 of weights and header."""
        found = []
        for header, weights in zip(self.headers, self.weights, strict=True):
            digest = hashlib.sha256(json.dumps(asdict(header), sort_keys=True).encode())
            for name, values in sorted(weights.items()):
                digest.update(repr((name, str(values.dtype), values.shape)).encode())
                digest.update(values.tobytes())
            found.append({"model": header.model, "sha256": digest.hexdigest()})
        return found

    def on(self, hardware: Hardware, prepared: CheckpointHeader) -> Answers:
        """What gives probabilities float32 (N, classes) for inputs (N, C, H, W).

        Args:
            hardware: where, and in which precision.
            prepared: how the inputs were normalised, for another network.
        """
        device, dtype = torch.device(hardware.device), hardware.autocast_dtype
        members = [
            (_build(header, weights, device), _Again(prepared, header, device))
            for header, weights in zip(self.headers, self.weights, strict=True)
        ]

        def answer(inputs: Tensor) -> Tensor:
            with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype is not None):
                logits = [network(again(inputs)).float() for network, again in members]
            return torch.stack(logits).softmax(dim=2).mean(dim=0)

        return answer


class _Again:
    """Inputs as one network takes them, normalised for another; of the same data as they are."""

    def __init__(
        self, before: CheckpointHeader, after: CheckpointHeader, device: torch.device
    ) -> None:
        self.same = (before.mean, before.std) == (after.mean, after.std)
        self.before = Normalisation(before.mean, before.std, device)
        self.after = Normalisation(after.mean, after.std, device)

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.same:
            return inputs
        return self.after(inputs * self.before.std + self.before.mean, inplace=True)


def _build(
    header: CheckpointHeader, weights: dict[str, NDArray[Any]], device: torch.device
) -> nn.Module:
    with torch.random.fork_rng():
        model = create_model(
            header.model, len(header.class_names), len(header.mean), header.image_size
        )
    model.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(False)
