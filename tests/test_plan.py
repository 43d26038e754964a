import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from fmnist_aug import AugmentationSampler, ConfusionPlan, ConfusionReport, load_dataset
from fmnist_aug.confusion import wilson_interval
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.labels import find_labels

NAMES = load_dataset("fashion-mnist", "test").class_names


def fashion_like():
    """600 images a class, confused as garments are."""
    counts = np.diag([600] * 10)
    for true, predicted, number in [
        (6, 0, 60),
        (0, 6, 50),
        (6, 2, 30),
        (2, 4, 25),
        (4, 6, 28),
        (3, 6, 10),
        (9, 7, 4),
        (5, 7, 3),
        (8, 3, 1),
    ]:
        counts[true, predicted] += number
        counts[true, true] -= number
    return ConfusionReport(tuple(map(tuple, counts.tolist())), NAMES)


@st.composite
def predictions(draw):
    classes = draw(st.integers(1, 6))
    labels = st.lists(st.integers(0, classes - 1), min_size=1, max_size=80)
    true = draw(labels)
    predicted = draw(st.lists(st.integers(0, classes - 1), min_size=len(true), max_size=len(true)))
    return classes, true, predicted


@pytest.mark.fault(4)
@given(predictions())
def test_counts_rates_and_pairs_are_those_of_the_predictions(case):
    classes, true, predicted = case
    report = ConfusionReport.from_predictions(true, predicted, [f"c{k}" for k in range(classes)])
    for row in range(classes):
        for column in range(classes):
            expected = sum(t == row and p == column for t, p in zip(true, predicted, strict=True))
            assert report.counts[row][column] == expected
    assert report.errors == sum(t != p for t, p in zip(true, predicted, strict=True))
    pairs = report.most_confused()
    assert sum(pair.count for pair in pairs) == report.errors
    assert [pair.count for pair in pairs] == sorted((p.count for p in pairs), reverse=True)
    for pair in pairs:
        assert pair.first < pair.second
        assert 0 <= pair.ci95[0] <= pair.rate <= pair.ci95[1] <= 1
        assert 0 <= pair.share_ci95[0] <= pair.share <= pair.share_ci95[1] <= 1
    assert all(value is None or 0 <= value <= 1 for value in report.recall)


@pytest.mark.fault(4)
@given(predictions(), st.sampled_from(["auto", "given"]))
def test_plans_survive_json_and_never_draw_less_than_nothing(case, how):
    classes, true, predicted = case
    report = ConfusionReport.from_predictions(true, predicted, [f"c{k}" for k in range(classes)])
    pairs = [(0, classes - 1)] if how == "given" and classes > 1 else None
    plan = ConfusionPlan.from_report(report, pairs)
    assert ConfusionPlan.from_json(plan.to_json()) == plan
    assert ConfusionPlan.from_json(json.dumps(json.loads(plan.to_json()))) == plan
    assert all(draws >= 0 for draws in plan.extra_draws)
    assert (
        max(plan.extra_draws) <= 0.5
        or not plan.pairs
        or max(report.support) > 4 * min(report.support)
    )
    assert all(name in plan.to_table() for name in plan.class_names)


def test_the_default_plan_is_that_of_the_design():
    plan = ConfusionPlan.from_report(fashion_like())
    assert [(pair.first, pair.second) for pair in plan.pairs] == [(0, 6), (2, 6), (4, 6)]
    assert plan.classes == (0, 2, 4, 6)
    draws = dict(zip(NAMES, plan.extra_draws, strict=True))
    assert draws["Shirt"] == 0.5
    assert draws["T-shirt/top"] == pytest.approx(0.5 * 110 / 168)
    assert draws["Pullover"] == 0.125, "never below a quarter"
    targeted = sum(plan.extra_draws[label] for label in plan.classes)
    others = sum(plan.extra_draws) - targeted
    assert others == pytest.approx(0.1 * targeted)


@pytest.mark.parametrize("pairs", ["0:6", "T-shirt/top:Shirt", [(0, 6)], [("Shirt", 0)]])
def test_pairs_can_be_set_by_name_or_number(pairs):
    plan = ConfusionPlan.from_report(fashion_like(), pairs)
    assert plan.classes == (0, 6)
    assert plan.extra_draws[0] == plan.extra_draws[6] == 0.5


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ("0:Hat", "unknown class 'Hat'"),
        ("0:10", "unknown class '10'"),
        ("0:0", "with itself"),
        ("0", "not a pair"),
        ("0:6:3", "not a pair"),
        ("0:6,", "not a pair"),
        ("", "not a pair"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(pairs, said):
    with pytest.raises(UsageError, match=said):
        ConfusionPlan.from_report(fashion_like(), pairs)


def test_numbers_are_indices_though_names_be_digits():
    labels = [str(digit) for digit in range(1, 10)]
    report = ConfusionReport.from_predictions(labels, labels)
    assert ConfusionPlan.from_report(report, [(0, 6)]).classes == (0, 6)
    assert ConfusionPlan.from_report(report, [(np.int64(1), np.int64(2))]).classes == (1, 2)
    assert ConfusionPlan.from_report(report, [("1", "7")]).classes == (0, 6)
    assert ConfusionPlan.from_report(report, "1:7").classes == (0, 6)
    for unknown in (9, -1, True):
        with pytest.raises(UsageError, match="unknown class"):
            ConfusionPlan.from_report(report, [(0, unknown)])


def test_without_confusions_the_plan_says_so():
    perfect = ConfusionReport.from_predictions([0, 1, 2] * 50, [0, 1, 2] * 50)
    plan = ConfusionPlan.from_report(perfect)
    assert (plan.pairs, plan.extra_draws) == ((), (0.0,) * 3)
    assert "no confusions" in plan.reason
    scattered = np.full((10, 10), 2) + np.diag([80] * 10)
    report = ConfusionReport(tuple(map(tuple, scattered.tolist())), NAMES)
    assert "more than chance" in ConfusionPlan.from_report(report).reason


def test_two_classes_are_a_pair_once_they_are_confused():
    report = ConfusionReport.from_predictions([0] * 50 + [1] * 50, [0] * 40 + [1] * 60)
    assert ConfusionPlan.from_report(report).classes == (0, 1)


def test_spread_evenly_draws_as_many_from_all_classes():
    counts = [500, 100, 300, 700, 600, 400, 600, 800, 100, 10]
    plan = ConfusionPlan.from_report(fashion_like())
    total = sum(round(w * n) for w, n in zip(plan.extra_draws, counts, strict=True))
    even = plan.spread_evenly(counts)
    assert len(set(even.extra_draws)) == 1
    spread = sum(round(w * n) for w, n in zip(even.extra_draws, counts, strict=True))
    assert abs(spread - total) <= len(counts) / 2


@pytest.mark.parametrize(("classes", "images"), [(100, 50), (100, 5), (20, 30)])
def test_uniform_draws_as_many_extras_as_targeted_from_many_small_classes(classes, images):
    # of each class alone they would be rounded to nothing, and the control would be none
    counts = np.diag([10] * classes)
    counts[:2, :2] = 5
    report = ConfusionReport(tuple(map(tuple, counts.tolist())), tuple(map(str, range(classes))))
    plan = ConfusionPlan.from_report(report, pairs=[(0, 1)])
    labels = np.repeat(np.arange(classes), images)
    targeted = AugmentationSampler(labels, plan).extras_per_class
    uniform = AugmentationSampler(labels, plan.spread_evenly([images] * classes)).extras_per_class
    assert sum(targeted) == sum(uniform) > 0
    assert max(uniform) - min(uniform) == 1


def test_plans_written_before_there_were_weights_and_schedules_still_load():
    plan = ConfusionPlan.from_report(fashion_like(), keep=1.0)
    text = json.loads(plan.to_json())
    for name in ("keep", "keep_after", "strength", "in_place", "image_weights", "excluded"):
        del text[name]
    for name in ("start", "ramp", "stop"):
        del text[name]
    assert ConfusionPlan.from_json(json.dumps(text)) == plan


def test_a_sharper_plan_survives_json_and_says_what_it_does():
    plan = dataclasses.replace(
        ConfusionPlan.from_report(fashion_like()),
        strength=0.5,
        image_weights="0129",
        excluded=(1, 3),
        start=0.1,
        ramp=0.2,
        stop=0.8,
    )
    assert ConfusionPlan.from_json(plan.to_json()) == plan
    table = plan.to_table()
    assert "2 images whose label is probably wrong" in table
    assert "from 10% of the training on, growing over 20%, until 80%" in table
    assert "strength × 0.5" in table


@pytest.mark.parametrize(
    "changes",
    [
        {"strength": -1},
        {"strength": float("nan")},
        {"image_weights": "12x"},
        {"start": 0.9, "stop": 0.5},
        {"ramp": 2.0},
        {"keep_after": float("inf")},
        {"excluded": (3, -1)},
    ],
    ids=str,
)
def test_plan_fields_that_make_no_sense_are_refused(changes):
    with pytest.raises(DataError):
        dataclasses.replace(ConfusionPlan.empty(NAMES), **changes)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "pairs": 3}'])
def test_texts_that_are_no_plan_are_refused(text):
    with pytest.raises(DataError, match=r"plan|schema"):
        ConfusionPlan.from_json(text)


def test_predictions_come_as_labels_names_or_scores():
    scores = np.array([[0.9, 0.1], [0.2, 0.8]])
    by_scores = ConfusionReport.from_predictions([0, 0], scores, ["cat", "dog"])
    by_names = ConfusionReport.from_predictions(["cat", "cat"], ["cat", "dog"])
    by_tensor = ConfusionReport.from_predictions(
        torch.tensor([0, 0]), torch.tensor([0, 1]), ["cat", "dog"]
    )
    assert by_scores == by_names == by_tensor
    logits = torch.tensor(scores, requires_grad=True)
    columns = np.array([[0.0], [0.0]]), np.array([[0.0], [1.0]])  # as Keras and pandas give them
    for other in ((torch.tensor([0, 0]), logits), columns):
        assert ConfusionReport.from_predictions(*other, ["cat", "dog"]) == by_scores


@pytest.mark.parametrize("names", [[1, 2, 3], np.array([1, 2, 3])])
def test_numbers_can_be_the_names_of_classes(names):
    # as a classifier's classes_ are; of class 3 none was held out
    scores = [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.1, 0.9, 0], [0.2, 0.7, 0.1]]
    report = ConfusionReport.from_predictions([1, 1, 2, 2], scores, names)
    assert report.counts == ((1, 1, 0), (0, 2, 0), (0, 0, 0))
    assert report == ConfusionReport.from_predictions([1.0, 1, 2, 2], [1, 2, 2, 2], names)
    assert report == ConfusionReport(report.matrix, names)
    plan = ConfusionPlan.from_report(report, "1:2")
    assert [(pair.first, pair.second) for pair in plan.pairs] == [(0, 1)]
    assert ConfusionPlan.from_json(plan.to_json()) == plan
    with pytest.raises(DataError, match="label 0 is not among the class names"):
        ConfusionReport.from_predictions([0, 1], [1, 2], names)


@pytest.mark.parametrize(
    ("true", "predicted", "names"),
    [
        ([0, 1], [0], None),
        ([0, 5], [0, 1], ["a", "b"]),
        ([0.5], [0], None),
        ([-1], [0], None),
        (["a"], ["c"], ["a", "b"]),
        ([0], [[0.1, 0.9]], ["a"]),
        ([[1, 0], [0, 1]], [0, 1], None),
        ([0, 1], [[0.2], [0.7]], None),
        ([0, 1], [0, np.inf], None),
        ([0, 10**9], [0, 1], None),  # an identifier: its table would not fit in any memory
        ([], [], None),
        (["cat", "dog"], [0, 1], None),
        ([0, 1], ["cat", "dog"], None),
        (["cat", "dog"], [b"cat", b"dog"], None),
    ],
)
def test_predictions_that_do_not_fit_are_refused(true, predicted, names):
    with pytest.raises(DataError):
        ConfusionReport.from_predictions(true, predicted, names)


def test_the_wilson_interval_has_textbook_values():
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_wilson_interval_is_scipys():
    for trials in (1, 7, 6000, 1 << 40):
        for successes in sorted({0, 1, trials // 3, trials - 1, trials}):
            expected = binomtest(successes, trials).proportion_ci(method="wilson")
            found = wilson_interval(successes, trials)
            assert found == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


class Decoder:
    """A data set that must not be read to learn its labels."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __len__(self):
        return len(next(iter(self.__dict__.values()), []))

    def __getitem__(self, index):
        raise AssertionError("an image was decoded")


def test_labels_are_found_in_any_data_set_without_decoding():
    plain = Decoder(targets=[0, 1, 2, 1])
    tensors = TensorDataset(torch.zeros(3, 1), torch.tensor([2, 0, 1]))
    folder = Decoder(samples=[("a.png", 0), ("b.png", 3)])
    for source, expected in [
        (plain, [0, 1, 2, 1]),
        (Decoder(labels=np.array([[1], [0]])), [1, 0]),
        (folder, [0, 3]),
        (tensors, [2, 0, 1]),
        (Subset(Subset(plain, [3, 2, 1]), [0, 2]), [1, 1]),
        (ConcatDataset([plain, tensors]), [0, 1, 2, 1, 2, 0, 1]),
        (torch.tensor([1, 0]), [1, 0]),
        ((1, 2), [1, 2]),
        (load_dataset("mnist", "test").subset(np.arange(3)), [7, 2, 1]),
    ]:
        assert find_labels(source).tolist() == expected
    for source in (Decoder(), [0.5, 1.0], [-1, 0]):
        with pytest.raises(DataError):
            find_labels(source)


def test_cleanlabs_labels_and_pred_probs_are_taken_as_they_are():
    # what cleanlab's documentation hands to find_label_issues(labels, pred_probs)
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:300], labels[:300]
    model = GaussianNB()
    pred_probs = cross_val_predict(model, images, labels, cv=3, method="predict_proba")
    report = ConfusionReport.from_predictions(labels, pred_probs)
    by_scikit_learn = confusion_matrix(labels, pred_probs.argmax(axis=1), labels=range(10))
    assert (report.matrix == by_scikit_learn).all()
    # a class that no image has still has a column
    few = ConfusionReport.from_predictions([0, 1], np.eye(4)[[0, 3]], ["a", "b", "c", "d"])
    assert few.counts[1] == (0, 0, 0, 1)
    with pytest.raises(DataError, match="NaN"):
        ConfusionReport.from_predictions([0], [[np.nan, 1.0]])


def test_names_as_pandas_stores_them_are_taken():
    names = np.array(["cat", "dog"], dtype=object)
    assert ConfusionReport.from_predictions(names, names[::-1]).class_names == ("cat", "dog")
    with pytest.raises(DataError, match="object"):
        ConfusionReport.from_predictions(np.array(["cat", 1], dtype=object), names)


@pytest.mark.parametrize(("classes", "errors"), [(10, 1), (10, 4), (10, 50), (10, 600), (30, 100)])
def test_errors_that_chance_spread_are_rarely_taken_for_confused_pairs(
    classes, errors, record_property
):
    record_property("seed", 0)
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        true = rng.integers(classes, size=errors)
        wrong = (true + rng.integers(1, classes, size=errors)) % classes
        report = ConfusionReport.from_predictions(true, wrong, [str(i) for i in range(classes)])
        plan = ConfusionPlan.from_report(report)
        assert bool(plan.pairs) == (plan.keep < 1)
        found += bool(plan.pairs)
    assert binomtest(found, 200, 0.05, alternative="greater").pvalue > 0.01


def test_errors_that_gather_are_a_plan_however_few():
    true = np.repeat(np.arange(10), 100)
    predicted = true.copy()
    predicted[[0, 1, 2]] = 6
    report = ConfusionReport.from_predictions(true, predicted)
    assert [(pair.first, pair.second) for pair in ConfusionPlan.from_report(report).pairs] == [
        (0, 6)
    ]
    predicted[[100, 150]] = 7
    predicted[[210, 220]] = 3
    again = ConfusionPlan.from_report(ConfusionReport.from_predictions(true, predicted))
    assert again == ConfusionPlan.from_report(ConfusionReport.from_predictions(true, predicted))
    assert again.pairs


def test_many_classes_are_planned_for_at_once():
    rng = np.random.default_rng(0)
    true = rng.integers(300, size=15_000)
    predicted = np.where(rng.random(15_000) < 0.6, true, rng.integers(300, size=15_000))
    predicted[true == 7] = 8
    counted = []
    report = ConfusionReport.from_predictions(true, predicted)
    support = ConfusionReport.support.fget
    report_type = type("Counted", (ConfusionReport,), {})
    report_type.support = property(lambda self: counted.append(1) or support(self))
    plan = ConfusionPlan.from_report(report_type(report.counts, report.class_names))
    assert (plan.pairs[0].first, plan.pairs[0].second) == (7, 8)
    assert len(counted) < 10, "once for all pairs, not for each"


def test_a_rare_class_that_is_not_confused_is_drawn_no_more_often_than_those_that_are():
    true = np.repeat([0, 1, 2], [20_000, 20_000, 1])
    predicted = true.copy()
    predicted[:2000] = 1
    plan = ConfusionPlan.from_report(ConfusionReport.from_predictions(true, predicted))
    assert plan.extra_draws == (0.5, 0.5, 0.5)


def test_arrays_of_any_kind_make_the_same_report_and_plan():
    true, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 1, 2])
    names = np.array(["a", "b", "c"])
    report = ConfusionReport.from_predictions(true, predicted, list("abc"))
    matrix = confusion_matrix(true, predicted)
    assert ConfusionReport(matrix, names) == report
    assert ConfusionReport(tuple(map(tuple, matrix)), ("a", "b", "c")) == report
    plan = ConfusionPlan.from_report(ConfusionReport(matrix, names), pairs=[(0, 1)])
    assert ConfusionPlan.from_json(plan.to_json()) == plan
    assert ConfusionReport.from_predictions(names[true], names[predicted], names) == report
    scores = torch.eye(3, dtype=torch.bfloat16)[torch.tensor(predicted)]
    assert ConfusionReport.from_predictions(names[true], scores, names) == report
    draws = np.array([0.5, 0.25, 0], np.float32)
    single = dataclasses.replace(plan, extra_draws=draws)
    assert ConfusionPlan.from_json(single.to_json()) == single
    with pytest.raises(DataError, match="y_pred is no array"):
        ConfusionReport.from_predictions([0, 1, 1], [np.zeros((2, 3)), np.zeros((1, 3))])


@pytest.mark.parametrize("pairs", [(0, 1), [(0, 1, 2)], [(0,)], ("a", "b"), ("ab",), [3]])
def test_what_is_no_list_of_pairs_is_refused(pairs):
    report = ConfusionReport.from_predictions([0, 1, 2], [1, 0, 2], ["a", "b", "ab"])
    with pytest.raises(UsageError, match="not a pair of classes"):
        ConfusionPlan.from_report(report, pairs)


@pytest.mark.parametrize("pair", [(1, 1), (0, 3), (-1, 1)])
def test_a_report_has_pairs_of_its_own_classes_only(pair):
    report = ConfusionReport.from_predictions([0, 1, 2], [1, 0, 2])
    with pytest.raises(UsageError, match="two of the 3 classes"):
        report.pair(*pair)


def test_the_table_of_a_plan_keeps_long_names_apart_from_numbers():
    names = ("Chevrolet Silverado 1500 2012", "Chevrolet Silverado 1500 2013", "Mini")
    report = ConfusionReport(((5, 5, 0), (5, 5, 0), (0, 0, 10)), names)
    lines = ConfusionPlan.from_report(report, "0:1").to_table().splitlines()
    assert [line.split()[-2:] for line in lines if line.endswith("targeted")] == [
        ["0.500", "targeted"]
    ] * 2
    for start, column in (("confused pair", " of both classes"), ("class", "extra draws")):
        head = next(place for place, line in enumerate(lines) if line.startswith(start))
        places = {line.rindex("0.500") for line in lines if line.endswith("targeted")}
        assert column in lines[head]
        assert start != "class" or places == {lines[head].index(column)}
    assert "Chevrolet Silverado 1500 2012 – Chevrolet Silverado 1500 2013 " in lines[1]
