import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from fmnist_aug import ConfusionReport, TargetedAugmentationClassifier, load_dataset
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.estimator import _as_tiles, _choose_form

SHIRTS = load_dataset("fashion-mnist", "train").subset(np.arange(1200))
SHIRTS = SHIRTS.subset(np.flatnonzero(np.isin(SHIRTS.labels, [0, 6, 8])))


def make(**options):
    return TargetedAugmentationClassifier(
        **{"epochs": 1, "device": "cpu", "random_state": 0, **options}
    )


@pytest.fixture(scope="module")
def fitted():
    names = np.array(SHIRTS.class_names)[SHIRTS.labels]
    return make(epochs=4, pairs="T-shirt/top:Shirt", flip=True).fit(SHIRTS.images, names)


EXPECTED_FAILURES = {
    "check_methods_subset_invariance": "in batches of another size convolutions add up in another "
    "order, so probabilities differ in the last bits of float32, more than this check's 1e-7"
}


@parametrize_with_checks(
    [make(epochs=2)], expected_failed_checks=lambda estimator: EXPECTED_FAILURES
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_it_learns_plans_and_speaks_in_the_users_labels(fitted):
    test = load_dataset("fashion-mnist", "test").subset(np.arange(1000))
    test = test.subset(np.flatnonzero(np.isin(test.labels, [0, 6, 8])))
    names = np.array(test.class_names)[test.labels]
    assert fitted.classes_.tolist() == ["Bag", "Shirt", "T-shirt/top"]
    assert fitted.n_features_in_ == 28 * 28
    assert fitted.score(test.images, names) > 0.6
    probabilities = fitted.predict_proba(test.images)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (fitted.classes_[probabilities.argmax(axis=1)] == fitted.predict(test.images)).all()
    assert fitted.plan_.classes == (1, 2)
    assert fitted.plan_.policy == "photometric"
    assert isinstance(fitted.plan_.confusions, ConfusionReport)
    held_out = fitted.plan_.confusions.total
    assert held_out == round(0.1 * len(SHIRTS))  # nothing but its own training data


def test_shapes_that_hold_the_same_pixels_predict_the_same(fitted):
    images = SHIRTS.images[:20]
    expected = fitted.predict_proba(images)
    flat = make(epochs=4, pairs="T-shirt/top:Shirt", flip=True)
    names = np.array(SHIRTS.class_names)[SHIRTS.labels]
    flat.fit(SHIRTS.images.reshape(len(SHIRTS), -1), names)
    assert (flat.predict_proba(images.reshape(20, -1)) == expected).all()
    assert (pickle.loads(pickle.dumps(fitted)).predict_proba(images) == expected).all()
    with pytest.raises(DataError, match="X must be"):
        fitted.predict(images[:, :14, :14].repeat(4, axis=3).reshape(20, 14, 56, 1))


def as_types(values):
    return [values.astype(dtype) for dtype in (np.uint8, np.int64, np.float32, np.float64)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equal_values_predict_alike_whatever_their_type(dtype):
    X = (SHIRTS.images[:60] // 2 + 20).astype(dtype)
    fitted = make().fit(X, SHIRTS.labels[:60])
    fitted = pickle.loads(pickle.dumps(fitted))
    expected = fitted.predict_proba(X)
    for others in as_types(X):
        assert (fitted.predict_proba(others) == expected).all()


def test_an_estimator_pickled_before_the_type_was_kept_predicts_as_it_did():
    X = SHIRTS.images[:60] // 2 + 20
    fitted = make().fit(X, SHIRTS.labels[:60])
    expected = fitted.predict_proba(X)
    fitted._low, fitted._high = np.asarray(20.0), np.asarray(147.0)
    del fitted._scales_uint8
    assert (pickle.loads(pickle.dumps(fitted)).predict_proba(X) == expected).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_rows_that_are_no_images_predict_alike_whatever_their_type(dtype):
    X = np.random.default_rng(0).integers(10, 200, (40, 6)).astype(dtype)
    fitted = make().fit(X, np.arange(40) % 2)
    for others in as_types(X):
        assert (fitted.predict_proba(others) == fitted.predict_proba(X)).all()


def test_it_works_in_cross_validation_on_floats_of_another_range():
    digits, labels = load_digits(return_X_y=True)  # 0.0 … 16.0, 8 × 8 pixels
    chosen = np.flatnonzero(labels < 3)[:240]
    scores = cross_val_score(make(epochs=4), digits[chosen], labels[chosen], cv=2)
    assert len(scores) == 2
    assert scores.min() > 0.8


def test_the_same_random_state_gives_the_same_and_another_does_not():
    X, y = SHIRTS.images[:60], SHIRTS.labels[:60]
    first, again, other = (make(random_state=seed).fit(X, y).predict_proba(X) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_a_class_too_small_to_hold_out_leaves_the_plan_empty():
    X, y = SHIRTS.images[:30], SHIRTS.labels[:30].copy()
    y[y == 8] = 0
    y[0] = 8
    fitted = make().fit(X, y)
    assert fitted.plan_.pairs == ()
    assert "single image" in fitted.plan_.reason
    assert fitted.classes_.tolist() == [0, 6, 8]


def test_rows_are_read_as_images_only_where_they_can_be():
    assert _choose_form((784,), None) == (28, 28, 1)
    assert _choose_form((63,), None) is None
    assert _choose_form((49,), None) is None  # 7 × 7 is too small for the networks
    assert _choose_form((192,), (8, 8, 3)) == (8, 8, 3)
    assert _choose_form((9, 10), None) == (9, 10, 1)
    tiles = _as_tiles(np.array([[1, 2, 3]], np.uint8))[0, ..., 0]
    assert tiles.shape == (8, 8)
    assert tiles[::4, ::4].tolist() == [[1, 2], [3, 0]]


@pytest.mark.parametrize(
    ("options", "shape", "error"),
    [
        ({"image_shape": (5, 5)}, (20, 24), UsageError),
        ({}, (20, 8, 8, 2), DataError),
        ({}, (20, 4, 4), UsageError),
        ({"preset": "nothing"}, (20, 8, 8), UsageError),
        ({"pairs": "0:hat"}, (20, 8, 8), UsageError),
        ({"policy": "nothing"}, (20, 8, 8), UsageError),
        ({"image_shape": 8}, (20, 64), UsageError),
    ],
)
def test_what_cannot_be_used_is_said(options, shape, error):
    X = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with pytest.raises(error):
        make(**options).fit(X, np.arange(20) % 2)


@pytest.mark.parametrize("options", [{"pairs": "0:hat"}, {"pairs": "1:1"}, {"policy": "nothing"}])
def test_mistakes_in_the_plan_are_told_before_the_probe_is_trained(options, monkeypatch):
    monkeypatch.setattr("fmnist_aug.estimator.measure_confusions", None)
    with pytest.raises(UsageError):
        make(**options).fit(np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2)


def test_views_that_run_backwards_are_images_like_others():
    X = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    y = np.arange(40) % 2
    mirrored = X[:, ::-1, :, ::-1]  # as OpenCV's pictures are turned into RGB
    found, expected = (make(epochs=1).fit(values, y) for values in (mirrored, mirrored.copy()))
    assert (found.predict_proba(mirrored) == expected.predict_proba(mirrored)).all()
    rows = X.reshape(40, -1)[::-1]
    make(epochs=1, image_shape=np.array([8, 8, 3])).fit(rows, y)


def test_it_must_be_fitted_first():
    with pytest.raises(NotFittedError):
        make().predict(SHIRTS.images)
