"""Checkpoints for other runtimes: ONNX and `torch.export`, with everything that predicting needs.

The exported graph takes what `Classifier.predict_logits` takes, uint8 images (N, H, W, C), and
gives its logits: normalisation and test-time views are inside, the number of images is free.
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist_aug.classifier import Classifier
from fmnist_aug.errors import FmnistAugError, UsageError
from fmnist_aug.files import write_bytes

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
INPUT, OUTPUT = "images", "logits"
"""Names in the exported graph."""
TOLERANCE = 1e-4
"""Largest difference to the logits of PyTorch that an export may have, as a share of the largest
logit if that is more than 1: float32 rounds in proportion."""


class ClassifierGraph(nn.Module):
    """A classifier as one module: uint8 (N, H, W, C) in, float32 logits (N, classes) out.

    Args:
        classifier: on the CPU.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self._classifier = copy.deepcopy(classifier)
        # so that its weights count as this module's; row-major, as torch.export wants to store them
        self.model = self._classifier.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """The logits, averaged over the test-time views."""
        inputs = self._classifier.normalise(images.permute(0, 3, 1, 2))
        return self._classifier.average_views(inputs)


def export_classifier(classifier: Classifier, path: str | Path, form: str) -> float:
    """Write a classifier for another runtime and check what was written.

    Args:
        classifier: on the CPU.
        path: the file to write.
        form: ``onnx``, for onnxruntime and others, or ``torch-export``, for ``torch.export.load``.

    Returns:
        The largest absolute difference between its logits and those of PyTorch, on noise.

    Raises:
        UsageError: an unknown form, or a package is missing that it needs.
        FmnistAugError: the exported graph doesn't give the same logits; nothing is written.
        RunFolderError: the file can't be written.
    """
    if form not in SUFFIXES:
        raise UsageError(f"unknown format {form!r}; choose one of {', '.join(SUFFIXES)}")
    if form == "onnx":
        _require("onnx", "onnxscript", "onnxruntime")
    shape = (*classifier.header.image_size, len(classifier.header.mean))
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), np.uint8)
    exported = _traced(classifier, images)
    if form == "onnx":
        content = _as_onnx(exported)
        found = onnx_logits(content, images)
    else:
        stream = io.BytesIO()
        torch.export.save(exported, stream)
        content = stream.getvalue()
        found = torch_export_logits(io.BytesIO(content), images)
    expected = classifier.predict_logits(images)
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise FmnistAugError(
            f"the exported graph's logits differ by {difference:.2g} from PyTorch's; report this, "
            "with the versions of torch and onnx"
        )
    write_bytes(Path(path), content)
    return difference


def onnx_logits(model: str | Path | bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits float32 (N, classes) of an exported ONNX file, by onnxruntime on the CPU.

    Args:
        model: path or content of the file.
        images: uint8 (N, H, W, C).

    Raises:
        UsageError: onnxruntime is not installed.
    """
    _require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    content = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {INPUT: images})[0])


def torch_export_logits(
    file: str | Path | io.BytesIO, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Logits float32 (N, classes) of an exported ``.pt2`` file.

    Args:
        file: path, or an open file.
        images: uint8 (N, H, W, C).
    """
    program = torch.export.load(file if isinstance(file, io.BytesIO) else str(file))
    with torch.inference_mode():
        return np.asarray(program.module()(torch.from_numpy(images)).numpy())


def _traced(classifier: Classifier, images: NDArray[np.uint8]) -> torch.export.ExportedProgram:
    graph = ClassifierGraph(classifier).eval()
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(
            graph, (torch.from_numpy(images),), dynamic_shapes={"images": {0: batch}}
        )


def _as_onnx(exported: torch.export.ExportedProgram) -> bytes:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        # about torch's and onnxscript's own inner workings; the result is checked by its logits
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            program: Any = torch.onnx.export(
                exported, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
            )
        finally:
            logger.setLevel(level)
    return bytes(program.model_proto.SerializeToString())


def _require(*packages: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"this needs {', '.join(missing)}; install with: pip install 'fmnist-aug[export]'"
        )
