"""A comparison with made-up data, and what the tests of its report have in common."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser

import numpy as np
from rich.console import Console

from fmnist_aug.comparison.results import arm_figures, contrast_figures, run_figures
from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.data.dataset import DatasetCard, ImageDataset
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.report import render_tables

ARMS = ("baseline", "uniform", "targeted")
HOSTILE = (
    "<script>alert(1)</script>",
    "$x^{$",
    "\x1b[31mred\x1b[0m\x07",
    "[bold]a[/bold]",
    "\u202e",
)


def make_dataset(classes=3, size=8, channels=1, count=60, names=None, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, size, size + 2, channels), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % classes
    names = tuple(names or (f"class {label}" for label in range(classes)))
    return ImageDataset(images, labels, names, DatasetCard("made-up", "Made up"), "test")


def make_logits(test, arms=ARMS, runs=3, error=0.1, swap=(0, 1), seed=0):
    """Right most of the time; half of the errors swap two classes, and later arms make fewer."""
    found = {}
    for position, arm in enumerate(arms):
        for run in range(runs):
            generator = np.random.default_rng([seed, position, run])
            logits = generator.normal(0, 1, (len(test), test.num_classes)).astype(np.float32)
            target = test.labels.copy()
            wrong = generator.random(len(test)) < error * (1 - 0.15 * position)
            other = (target + generator.integers(1, test.num_classes, len(test))) % test.num_classes
            target[wrong] = other[wrong]
            for one, two in (swap, swap[::-1]):
                rows = (test.labels == one) & (generator.random(len(test)) < error)
                target[rows] = two
            logits[np.arange(len(test)), target] += 9 if error == 0 else 6
            found[arm, run] = logits
    return found


def make_results(test, logits, focus=(0, 1), pairs="auto"):
    """The results of a comparison that ended with these logits."""
    runs = [
        run_figures(
            arm,
            seed,
            scores,
            test.labels,
            test.class_names,
            focus,
            steps=800,
            images_seen=204800,
            train_seconds=63.2,
            curve=[(0.9, 0.71, 1.2), (1.8, 0.86, 0.8), (2.7, 0.9, 0.7)],
        )
        for (arm, seed), scores in logits.items()
    ]
    arms = list(dict.fromkeys(arm for arm, _ in logits))
    correct = {
        arm: np.stack(
            [
                scores.argmax(axis=1) == test.labels
                for key, scores in logits.items()
                if key[0] == arm
            ]
        )
        for arm in arms
    }
    contrasts = contrast_figures(correct, test.labels, test.class_names)
    first = next(iter(logits.values()))
    plan = ConfusionPlan.from_report(
        ConfusionReport.from_predictions(test.labels, first, test.class_names),
        pairs=None if pairs == "auto" else pairs,
        source="6,000 held-out training images",
    )
    results = {
        "schema": 1,
        "dataset": test.card.title,
        "fingerprint": "cd" * 32,
        "fingerprints": {"train": "cd" * 32, "test": "ef" * 32},
        "preset": "fast",
        "model": "fast-cnn",
        "parameters": 264704,
        "class_names": list(test.class_names),
        "train_images": 60000,
        "test_images": len(test),
        "runs": runs,
        "arms": {arm: arm_figures([run for run in runs if run["arm"] == arm]) for arm in arms},
        "contrasts": contrasts,
        "minimum_detectable_difference": None,
        "plan": plan.to_dict(),
        "probe": {"held_out_images": 6000, "accuracy": 0.93},
        "environment": {
            "python": "3.12.1",
            "torch": "2.10.0",
            "device": "cpu",
            "precision": "fp32",
            "threads": 2,
            "commit": None,
            "command": "fmnist-aug compare --preset fast",
        },
    }
    return json.loads(json.dumps(results, allow_nan=False))


def make_samples(test, stacks=2, rows=5):
    return [(f"sample {i}", test.images[i * rows : (i + 1) * rows]) for i in range(stacks)]


def small(classes=3, **options):
    """A small data set, its logits and its results."""
    keys = ("size", "channels", "count", "names")
    test = make_dataset(classes, **{key: options.pop(key) for key in keys if key in options})
    focus = options.pop("focus", (0, 1))
    pairs = options.pop("pairs", "auto")
    logits = make_logits(test, **options)
    return test, logits, make_results(test, logits, focus, pairs)


def printed(results, width=100, **options):
    stream = io.StringIO()
    render_tables(results, Console(file=stream, width=width, **options))
    return stream.getvalue()


class Tags(HTMLParser):
    """Collects tags, and fails on an element that isn't closed."""

    VOID = ("meta", "img", "source", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def contrast(results, a, b):
    return next(c for c in results["contrasts"] if (c["a"], c["b"]) == (a, b))


def linear_light(colour):
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast_ratio(*colours):
    low, high = sorted(float(linear_light(c) @ [0.2126, 0.7152, 0.0722]) for c in colours)
    return (high + 0.05) / (low + 0.05)
