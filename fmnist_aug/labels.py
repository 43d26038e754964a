"""Finding the labels of a data set without decoding a single image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.errors import DataError


def find_labels(source: Any) -> NDArray[np.int64]:
    """Labels int64 (N,) of an array, a sequence, or a torch data set.

    Looks into ``Subset``, ``ConcatDataset`` and ``TensorDataset`` (its last tensor), and takes
    ``targets``, ``labels``, ``samples`` and the other names that torchvision's data sets give
    their labels, after the data set's own ``target_transform``.

    Raises:
        DataError: nothing of that kind is there, the labels are not whole numbers, or there are
            not as many as items.

    >>> find_labels([3, 1, 2]).tolist()
    [3, 1, 2]
    """
    found = _find(source)
    if found is None:
        raise DataError(
            f"can't find the labels of a {type(source).__name__} without reading its images; "
            "give them as an array (N,) instead"
        )
    if hasattr(found, "detach"):
        found = found.detach().cpu().numpy()
    try:
        labels = np.asarray(found)
    except ValueError as error:  # as for pairs of image and label
        raise DataError(
            f"labels must be whole numbers (N,), but those of this {type(source).__name__} are "
            "pairs or the like; give the labels alone, as an array (N,)"
        ) from error
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iub"):
        raise DataError(
            f"labels must be whole numbers (N,), not {labels.dtype} {labels.shape}; give them as "
            "an array (N,)"
        )
    if labels.size and labels.min() < 0:
        raise DataError(f"labels must not be negative, found {labels.min()}")
    if hasattr(source, "__len__") and len(source) != len(labels):
        raise DataError(
            f"found {len(labels)} labels in a {type(source).__name__} of {len(source)} items; give "
            "them as an array (N,) instead"
        )
    return labels.astype(np.int64)


def kinds(source: Any) -> set[str]:
    """Names of its class and of those above, by which it is known without importing them."""
    return {base.__name__ for base in type(source).__mro__}


def _find(source: Any) -> Any:
    kind = kinds(source)
    if isinstance(source, np.ndarray | list | tuple | range) or "Tensor" in kind:
        return source
    if "Subset" in kind:
        return find_labels(source.dataset)[np.asarray(source.indices, np.int64)]
    if "ConcatDataset" in kind:
        return np.concatenate([find_labels(part) for part in source.datasets])
    if "TensorDataset" in kind:
        return source.tensors[-1]
    found = _stored(source, kind)
    transform = getattr(source, "target_transform", None)
    if found is None or transform is None:
        return found
    # what the data set gives out is what counts
    values = found.tolist() if hasattr(found, "tolist") else found
    return [transform(value) for value in values]


def _stored(source: Any, kind: set[str]) -> Any:
    if "QMNIST" in kind:  # the class stands in the first of eight columns
        return source.targets[:, 0]
    if "INaturalist" in kind:
        return [label for label, _ in source.index] if source.target_type == ["full"] else None
    for name in ("targets", "labels", "_labels", "y"):
        value = getattr(source, name, None)
        if value is not None and not callable(value):
            return value
    for name in ("samples", "imgs", "_samples", "_flat_character_images"):
        value = getattr(source, name, None)
        if value is not None and not callable(value):
            return [sample[1] for sample in value]
    return None


def check_known(labels: NDArray[np.int64], num_classes: int) -> None:
    """Find out whether a plan knows all these labels' classes.

    Raises:
        DataError: it does not.
    """
    if labels.size and labels.max() >= num_classes:
        raise DataError(
            f"the labels go up to {labels.max()}, but the plan knows {num_classes} classes, "
            "numbered from 0"
        )
