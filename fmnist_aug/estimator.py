"""Targeted augmentation as a scikit-learn classifier."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from fmnist_aug.augment.policies import get_policy
from fmnist_aug.comparison.arms import base_augmentation
from fmnist_aug.comparison.probe import make_plan, measure_confusions
from fmnist_aug.data import DatasetCard, ImageDataset
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.models import SMALLEST_SIDE
from fmnist_aug.pairs import check_pairs
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.training import check_classes, choose_hardware, get_preset, train_model


class TargetedAugmentationClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Finds out what it confuses on a held-out part of its training data, and trains with that.

    ``fit`` trains a probe on most of the images, counts its confusions on the rest, turns them
    into a plan, and trains the final network on all images with the confused classes drawn and
    augmented more. Only what is given to ``fit`` is used, so it is safe in ``cross_val_score``.

    Images are uint8 (N, H, W) or (N, H, W, C), or any numbers of these shapes, or flat rows. Rows
    are read as images of ``image_shape``, or as square grey images if it isn't given and their
    length is a square of at least 64 pixels. Other rows are no images: each feature is scaled by
    itself and becomes a tile of a square; that works, but other estimators are better at it.
    If the training data is uint8, values are taken as they are; else they are scaled so that its
    smallest and its largest become 0 and 255. Either way values beyond are cut when predicting,
    and equal values give equal predictions, whatever their type.

    Args:
        preset: settings of the training, as on the command line; of its data slices no use is
            made.
        model: another network than the preset's.
        epochs: other passes over the training data than the preset's.
        pairs: ``auto``, or the classes to target, as text such as ``"0:6"``, by the names of the
            classes first and by their place in ``classes_`` second.
        policy: augmentation of the extra draws.
        held_out: share of the images on which the probe's confusions are counted.
        flip: whether mirrored images keep their label; then all draws are mirrored at times.
        image_shape: (H, W) or (H, W, C) of flat rows.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        random_state: of weights, order, augmentations and the held-out split.

    Attributes:
        classes_: the labels, sorted.
        n_features_in_: numbers in an image.
        plan_: the `ConfusionPlan`; without pairs if a class has too few images to hold one out.
        classifier_: the trained `Classifier`, which can be saved and exported.

    >>> import numpy as np
    >>> dark, light = np.zeros((20, 8, 8), np.uint8), np.full((20, 8, 8), 255, np.uint8)
    >>> X, y = np.concatenate([dark, light]), ["dark"] * 20 + ["light"] * 20
    >>> estimator = TargetedAugmentationClassifier(epochs=4, device="cpu", random_state=0)
    >>> estimator.fit(X, y).predict(X[[0, -1]]).tolist()
    ['dark', 'light']
    """

    _scales_uint8 = False  # nor did estimators that were pickled before fit decided it

    def __init__(
        self,
        preset: str = "fast",
        model: str | None = None,
        epochs: float | None = None,
        pairs: str = "auto",
        policy: str = "photometric",
        held_out: float = 0.1,
        flip: bool = False,
        image_shape: tuple[int, ...] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.preset = preset
        self.model = model
        self.epochs = epochs
        self.pairs = pairs
        self.policy = policy
        self.held_out = held_out
        self.flip = flip
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> TargetedAugmentationClassifier:
        """Measure confusions on a held-out part, plan, and train on all of it.

        Args:
            X: images, as the class says.
            y: labels (N,) of any kind that scikit-learn knows.

        Raises:
            DataError: fewer than two classes, or rows that are not of ``image_shape``.
            UsageError: a parameter that can't be used.
        """
        checked, y = validate_data(self, X, y, allow_nd=True, dtype="numeric")
        images: NDArray[Any] = np.asarray(checked)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.n_features_in_ = math.prod(images.shape[1:])
        self._form = _choose_form(images.shape[1:], self.image_shape)
        self._low, self._high = _find_range(images, self._form)
        self._scales_uint8 = images.dtype != np.uint8
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        data = ImageDataset(
            self._as_images(images),
            labels.astype(np.int64),
            tuple(map(str, self.classes_.tolist())),
            DatasetCard("estimator", "the training data", flip=self.flip, policy=self.policy),
        )
        check_classes(data)
        get_policy(self.policy)
        check_pairs(self.pairs, data.class_names)
        preset = get_preset(self.preset)
        settings = preset.settings
        if self.model is not None:
            settings = dataclasses.replace(settings, model=self.model)
        if self.epochs is not None:
            settings = dataclasses.replace(settings, epochs=self.epochs)
        common: dict[str, Any] = {
            "base": base_augmentation(data, settings.augment),
            "seed": seed,
            "hardware": choose_hardware(self.device),
        }
        if np.bincount(labels).min() < 2:
            self.plan_ = ConfusionPlan.empty(
                data.class_names,
                "a class has a single image, so none can be held out",
                keep=preset.keep,
            )
        else:
            probe = measure_confusions(data, settings, held_out=self.held_out, **common)
            self.plan_ = make_plan(probe, data, self.pairs, self.policy, preset.keep)
        trained = train_model(data, settings, plan=self.plan_, **common)
        self.classifier_ = trained.classifier
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities float64 (N, classes), columns in the order of ``classes_``.

        Args:
            X: images of the size that it was trained on, or as flat rows.
        """
        check_is_fitted(self)
        if np.asarray(X).ndim > 2:  # validate_data takes the second axis alone for the features
            images: NDArray[Any] = np.asarray(check_array(X, allow_nd=True, dtype="numeric"))
            form = self._form or ()
            if images.shape[1:] not in (form, form[:2] if form[2:] == (1,) else form):
                expected = f"images (N, {', '.join(map(str, form))})" if form else "flat rows"
                raise DataError(f"X must be {expected} as in training, not {images.shape}")
        else:
            images = np.asarray(validate_data(self, X, reset=False, dtype="numeric"))
        logits = self.classifier_.predict_logits(self._as_images(images)).astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable labels (N,).

        Args:
            X: images of the size that it was trained on, or as flat rows.
        """
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def _as_images(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        if X.dtype != np.uint8 or self._scales_uint8:
            # as float64 from the start: the range of integers may be wider than their type
            scale = np.where(self._high > self._low, self._high - self._low, 1.0)
            X = ((X.astype(np.float64) - self._low) / scale * 255).round().clip(0, 255)
            X = X.astype(np.uint8)
        if self._form is not None:
            X = X.reshape(-1, *self._form)
            return X if X.flags.writeable else X.copy()  # torch wants writable arrays
        return _as_tiles(X)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may expect."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.non_deterministic = False
        return tags


def _choose_form(
    shape: tuple[int, ...], image_shape: tuple[int, ...] | None
) -> tuple[int, int, int] | None:
    """Height, width and channels of what is in X; None for rows that are no images."""
    if len(shape) > 1 or image_shape is not None:
        try:
            form = tuple(shape if len(shape) > 1 or image_shape is None else image_shape)
        except TypeError:  # a single number
            raise UsageError(
                f"image_shape must be (H, W) or (H, W, C), not {image_shape}"
            ) from None
        form = (*form, 1) if len(form) == 2 else form
        if len(form) != 3 or form[2] not in (1, 3):
            raise DataError(
                f"images must be (H, W) or (H, W, 1 or 3), not {shape if len(shape) > 1 else form}"
            )
        if math.prod(form) != math.prod(shape):
            raise UsageError(f"rows of {shape[0]} features are no images of {image_shape}")
        return form[0], form[1], form[2]
    side = math.isqrt(shape[0])
    return (side, side, 1) if side >= SMALLEST_SIDE and side * side == shape[0] else None


def _find_range(
    X: NDArray[Any], form: tuple[int, int, int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What becomes 0 and 255: in uint8 these themselves.

    Else the smallest and the largest value, of all pixels, or of each feature if these are no
    images.
    """
    if X.dtype == np.uint8:
        return np.asarray(0.0), np.asarray(255.0)
    axis = 0 if form is None else None
    return (
        np.asarray(X.min(axis=axis), np.float64),
        np.asarray(X.max(axis=axis), np.float64),
    )


def _as_tiles(X: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows (N, F) as images: features from left to right, row by row, as tiles of a square."""
    side = math.ceil(math.sqrt(X.shape[1]))
    tile = math.ceil(SMALLEST_SIDE / side)
    padded = np.zeros((len(X), side * side), np.uint8)
    padded[:, : X.shape[1]] = X
    grid = padded.reshape(-1, side, side)
    return grid.repeat(tile, axis=1).repeat(tile, axis=2)[..., None]
