import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from fmnist_aug import ConfusionPlan, ConfusionReport
from fmnist_aug.comparison import arm_treatment, base_augmentation, contrast
from fmnist_aug.training import Hardware, get_preset, train_model

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from confusing_digits import PAIR, narrow_view_digits


@pytest.mark.slow
def test_targeting_beats_uniform_where_two_classes_show_a_narrow_view():
    train, test = narrow_view_digits(800, 1500)
    counts = np.diag([90] * 10)
    counts[PAIR] = counts[PAIR[::-1]] = 10
    report = ConfusionReport(tuple(map(tuple, counts.tolist())), train.class_names)
    plan = ConfusionPlan.from_report(report, "4:9", policy="geometric", extra_per_image=4.0)
    plan = dataclasses.replace(plan, strength=4.0)
    settings = dataclasses.replace(get_preset("smoke").settings, epochs=4)
    base = base_augmentation(train)
    class_counts = np.bincount(train.labels).tolist()
    correct = {"targeted": [], "uniform": []}
    for arm, runs in correct.items():
        for seed in range(3):
            augmentation, arm_plan = arm_treatment(arm, plan, base, class_counts, seed)
            trained = train_model(
                train,
                settings,
                base=augmentation,
                plan=arm_plan,
                seed=seed,
                hardware=Hardware("cpu", "fp32"),
            )
            runs.append(trained.classifier.predict(test.images) == test.labels)
    assert contrast(correct["targeted"], correct["uniform"]).verdict == "better"
