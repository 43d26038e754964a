"""Finding the labels of a data set without decoding a single image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.errors import DataError


def find_labels(source: Any) -> NDArray[np.int64]:
    """Labels int64 (N,) of an array, a sequence, or a torch data set.

    Looks into ``Subset``, ``ConcatDataset`` and ``TensorDataset``, and takes ``targets``,
    ``labels``, ``samples`` or ``imgs`` where a data set has them.

    Raises:
        DataError: nothing of that kind is there, or the labels are not whole numbers.

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
    labels = np.asarray(found)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iub"):
        raise DataError(
            f"labels must be whole numbers (N,), not {labels.dtype} {labels.shape}; give them as "
            "an array (N,)"
        )
    if labels.size and labels.min() < 0:
        raise DataError(f"labels must not be negative, found {labels.min()}")
    return labels.astype(np.int64)


def _find(source: Any) -> Any:
    kind = {base.__name__ for base in type(source).__mro__}
    if isinstance(source, np.ndarray | list | tuple | range) or "Tensor" in kind:
        return source
    if "Subset" in kind:
        return find_labels(source.dataset)[np.asarray(source.indices, np.int64)]
    if "ConcatDataset" in kind:
        return np.concatenate([find_labels(part) for part in source.datasets])
    if "TensorDataset" in kind:
        return source.tensors[-1]
    for name in ("targets", "labels", "_labels"):
        value = getattr(source, name, None)
        if value is not None and not callable(value):
            return value
    for name in ("samples", "imgs", "_samples"):
        value = getattr(source, name, None)
        if value is not None and not callable(value):
            return [sample[1] for sample in value]
    return None
