import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from fmnist_aug.comparison.results import arm_figures, contrast_figures, run_figures
from fmnist_aug.data import DatasetCard, ImageDataset
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.report import headline, render_tables, write_report

HOSTILE = ("<script>alert(1)</script>", "$x$ & \x1b[31mred", 'quote"\u202e')


def make(
    classes=3,
    arms=("baseline", "uniform", "targeted"),
    runs=2,
    channels=1,
    images=60,
    names=None,
    wrong=0.3,
    side=12,
):
    """A comparison's results from made-up logits."""
    rng = np.random.default_rng(0)
    names = tuple(names or (f"class {label}" for label in range(classes)))
    labels = np.arange(images) % classes
    pixels = rng.integers(0, 256, (images, side, side + 3, channels), dtype=np.uint8)
    test = ImageDataset(pixels, labels, names, DatasetCard("made", "Made <b>up</b>"), "test")
    logits, figures, correct = {}, [], {}
    for arm in arms:
        for seed in range(runs):
            shown = np.where(rng.random(images) < wrong, rng.integers(0, classes, images), labels)
            logits[arm, seed] = (3 * np.eye(classes)[shown]).astype(np.float32)
            correct.setdefault(arm, []).append(shown == labels)
            figures.append(
                run_figures(
                    arm,
                    seed,
                    logits[arm, seed],
                    labels,
                    names,
                    (0, 1),
                    steps=10,
                    images_seen=100,
                    train_seconds=1.5,
                )
            )
    plan = ConfusionPlan(names, (), (0.1,) * classes, "photometric", "made up")
    results = {
        "schema": 1, "dataset": test.card.title, "fingerprint": "ab" * 32,
        "fingerprints": {"train": "ab" * 32, "test": "cd" * 32}, "preset": "smoke",
        "model": "fast-cnn", "parameters": 1000, "class_names": list(names),
        "train_images": 600, "test_images": images, "runs": figures,
        "arms": {arm: arm_figures([r for r in figures if r["arm"] == arm]) for arm in arms},
        "contrasts": contrast_figures(
            {arm: np.array(rows) for arm, rows in correct.items()}, labels, names
        ),
        "minimum_detectable_difference": None, "plan": plan.to_dict(),
        "probe": {"held_out_images": 60, "accuracy": 0.8},
        "environment": {"python": "3", "device": "cpu", "command": "fmnist-aug compare <x>"},
    }  # fmt: skip
    return results, test, logits, [("a sample", pixels[:4])]


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "link", "br", "hr", "source", "col", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


CASES = {
    "usual": {},
    "hostile names": {"names": HOSTILE},
    "colour": {"channels": 3},
    "two classes": {"classes": 2},
    "many classes": {"classes": 40, "images": 400},
    "one run": {"runs": 1},
    "two arms": {"arms": ("baseline", "targeted")},
    "one arm": {"arms": ("uniform",)},
    "no errors": {"wrong": 0.0},
    "an absent class": {"images": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_the_report_is_one_safe_file_that_says_what_was_found(tmp_path, case):
    results, test, logits, samples = make(**CASES[case])
    path = write_report(tmp_path, results, test, logits, samples)
    text = path.read_text()
    assert path == tmp_path / "report.html"
    assert len(text) < 5_000_000
    page = Page(text)
    assert not any(tag in ("script", "iframe", "object", "embed", "link") for tag, _ in page.tags)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png")), (tag, attributes)
        if tag == "img":
            assert attributes["alt"]
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", text)
    assert any("content-security-policy" in str(attributes).lower() for _, attributes in page.tags)
    assert "Made <b>up</b>" in page.text
    assert "fmnist-aug compare <x>" in page.text
    for arm in results["arms"]:
        assert f"{100 * results['arms'][arm]['mean']:.2f}" in page.text
    assert list((tmp_path / "figures").glob("*.png"))
    before = text
    assert write_report(tmp_path, results, test, logits, samples).read_text() == before


@pytest.mark.parametrize("case", CASES)
def test_the_terminal_shows_the_same_figures(case):
    results, *_ = make(**CASES[case])
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    render_tables(results, console)
    console.file.close()
    shown = console.export_text()
    for arm in results["arms"]:
        assert arm in shown
    for run in results["runs"]:
        assert f"{100 * run['test_accuracy']:.2f}" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_the_headline_claims_only_what_the_contrast_shows():
    results, *_ = make()
    entry = next(c for c in results["contrasts"] if (c["a"], c["b"]) == ("targeted", "uniform"))
    for verdict, said in (("better", "helped"), ("worse", "hurt"), ("no evidence", "No evidence")):
        entry["verdict"] = verdict
        assert said in headline(results)
