"""Confusions and data without contrast: fixed shapes, no NaN, and plain words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist_aug import ConfusionPlan, ConfusionReport, load_dataset
from fmnist_aug.comparison.results import arm_figures, contrast_figures, focus_figures, run_figures
from fmnist_aug.data import DatasetCard, ImageDataset, held_out_split
from fmnist_aug.errors import DataError
from fmnist_aug.training import Hardware, TrainSettings, train_model

pytestmark = pytest.mark.fault(4)

NAMES = tuple("abcd")


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.lists(st.integers(0, 3), min_size=30, max_size=30),
    st.sets(st.integers(0, 3)),
)
def test_any_predictions_give_finite_figures_of_fixed_shape(labels, predicted, focus):
    labels = np.array(labels)
    logits = np.eye(4, dtype=np.float32)[predicted[: len(labels)]]
    figures = run_figures(
        "baseline", 0, logits, labels, NAMES, sorted(focus), steps=1, images_seen=1, train_seconds=1
    )
    assert np.shape(figures["confusion"]) == (4, 4)
    assert [recall is None for recall in figures["per_class_recall"]] == [
        label not in labels for label in range(4)
    ]
    assert np.isfinite(list(arm_figures([figures, figures])["ci95"])).all()
    report = ConfusionReport.from_predictions(labels, logits, NAMES)
    plan = ConfusionPlan.from_report(report)
    assert bool(plan.pairs) or "nothing to target" in plan.reason
    counts = [pair.count for pair in report.most_confused()]
    assert counts == sorted(counts, reverse=True)
    assert ConfusionPlan.from_json(plan.to_json()) == plan


def test_ties_are_ordered_by_class():
    report = ConfusionReport(((5, 1, 1), (1, 5, 1), (1, 1, 5)), tuple("abc"))
    found = [(pair.first, pair.second) for pair in report.most_confused()]
    assert found == [(0, 1), (0, 2), (1, 2)]


def test_perfect_and_equal_arms_show_no_difference():
    labels = np.arange(40) % 4
    correct = {arm: np.ones((3, 40), bool) for arm in ("baseline", "uniform", "targeted")}
    for found in contrast_figures(correct, labels, NAMES):
        assert (found["difference"], found["verdict"]) == (0.0, "no evidence")
        assert np.isfinite([found["p_value"], *found["ci95"]]).all()
    perfect = ConfusionReport.from_predictions(labels, labels, NAMES)
    assert focus_figures(perfect, (0, 1))["share_of_errors"] is None
    assert ConfusionPlan.from_report(perfect).extra_draws == (0.0,) * 4


def test_constant_images_and_an_empty_class_can_be_trained_on():
    images = np.full((24, 8, 8, 1), 7, np.uint8)
    data = ImageDataset(images, np.arange(24) % 2, ("a", "b", "never"), DatasetCard("x", "X"))
    settings = TrainSettings(model="fast-cnn", epochs=1, batch_size=12)
    trained = train_model(data, settings, hardware=Hardware("cpu", "fp32"))
    probabilities = trained.classifier.predict_proba(images[:3])
    assert probabilities.shape == (3, 3)
    assert np.isfinite(probabilities).all()


@pytest.mark.fault(5)
def test_one_class_only_and_test_images_are_refused():
    images = np.zeros((24, 8, 8, 1), np.uint8)
    one = ImageDataset(images, np.zeros(24, np.int64), ("a", "b"), DatasetCard("x", "X"))
    with pytest.raises(DataError, match="nothing to classify"):
        train_model(one, TrainSettings(model="fast-cnn", epochs=1))
    test = load_dataset("mnist", "test")
    with pytest.raises(DataError, match="nothing may be chosen or learnt on the test set"):
        held_out_split(test)
