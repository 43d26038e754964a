from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fmnist_aug.comparison import ARMS as COMPARED_ARMS
from fmnist_aug.comparison.results import arm_figures, contrast_figures, run_figures
from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.data import load_dataset
from fmnist_aug.data.dataset import DatasetCard, ImageDataset
from fmnist_aug.errors import DataError, RunFolderError
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.report import (
    figures,
    headline,
    html,
    mislabelled_images,
    render_tables,
    write_report,
)
from fmnist_aug.report import galleries as galleries_module
from fmnist_aug.report.canvas import DARK, LIGHT
from fmnist_aug.report.figures import draw_figures, file_name
from fmnist_aug.report.galleries import contact_sheet, image_png, limit_samples, strip_png
from fmnist_aug.report.hard_images import hardest_images, probably_mislabelled
from fmnist_aug.report.matrices import confusion_matrices, matrix_style
from fmnist_aug.report.mistakes import collect_mistakes, mistakes_json
from fmnist_aug.report.summary import KNOWN_ARMS, answer, focus_sentence
from fmnist_aug.report.tables import accuracy_table, contrasts_table, focus_table, recall_table

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


@pytest.fixture(scope="module")
def fashion():
    test = load_dataset("fashion-mnist", "test")
    test = test.subset(np.arange(2000))
    logits = make_logits(test, swap=(0, 6))
    return test, logits, make_results(test, logits, focus=(0, 6))


@pytest.fixture(scope="module")
def page(fashion, tmp_path_factory):
    test, logits, results = fashion
    folder = tmp_path_factory.mktemp("run")
    path = write_report(folder, results, test, logits, make_samples(test, 4, 9))
    return folder, path.read_text(encoding="utf-8")


def small(classes=3, **options):
    """A small data set, its logits and its results."""
    keys = ("size", "channels", "count", "names")
    test = make_dataset(classes, **{key: options.pop(key) for key in keys if key in options})
    focus = options.pop("focus", (0, 1))
    pairs = options.pop("pairs", "auto")
    logits = make_logits(test, **options)
    return test, logits, make_results(test, logits, focus, pairs)


def printed(results, **options):
    stream = io.StringIO()
    render_tables(results, Console(file=stream, width=100, **options))
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


# the answer


def contrast(results, a, b):
    return next(c for c in results["contrasts"] if (c["a"], c["b"]) == (a, b))


def test_headline_without_evidence_names_interval_runs_and_what_was_detectable():
    _, _, results = small()
    contrast(results, "targeted", "uniform").update(
        difference=0.0003,
        ci95=[-0.001, 0.0016],
        p_value=0.4,
        verdict="no evidence",
        minimum_detectable_difference=0.003,
    )
    text = headline(results)
    assert text.startswith("No evidence that targeting helped: targeted − uniform is +0.03 points")
    assert "−0.10 … +0.16" in text
    assert "p = 0.400" in text
    assert "3 runs an arm" in text
    assert "0.30 points" in text


@pytest.mark.parametrize(
    ("verdict", "opening"), [("better", "Targeting helped:"), ("worse", "Targeting hurt:")]
)
def test_headline_follows_the_verdict(verdict, opening):
    _, _, results = small()
    contrast(results, "targeted", "uniform")["verdict"] = verdict
    assert headline(results).startswith(opening)
    assert answer(results).verdict == verdict


def test_gain_over_the_baseline_alone_is_credited_to_augmenting():
    _, _, results = small()
    contrast(results, "targeted", "uniform")["verdict"] = "no evidence"
    contrast(results, "targeted", "baseline")["verdict"] = "better"
    assert "augmenting helped, and nothing shows that targeting added to it" in headline(results)
    assert answer(results).verdict == "no evidence"


def test_without_uniform_the_answer_stays_open():
    _, _, results = small(arms=("baseline", "targeted"))
    contrast(results, "targeted", "baseline")["verdict"] = "better"
    assert answer(results).verdict == "open"
    assert "stays open" in headline(results)
    assert "3 runs an arm" in headline(results)


@pytest.mark.parametrize("arms", [("baseline",), ("targeted",), ("baseline", "uniform")])
def test_without_the_needed_arms_nothing_is_claimed(arms):
    _, _, results = small(arms=arms)
    assert answer(results).verdict == "open"
    assert "not measured" in headline(results)


def test_one_run_and_an_empty_plan_are_admitted():
    _, _, results = small(runs=1, pairs=[])
    text = headline(results)
    assert "1 run an arm" in text
    assert "luck of its seed" in text
    assert "Nothing was targeted" in text


# tables


def test_accuracy_table_is_the_originals():
    _, _, results = small()
    table = accuracy_table(results)
    assert [row[0] for row in table.rows] == ["1", "2", "3", "Average"]
    assert table.columns == ("Test", *ARMS)
    run = next(r for r in results["runs"] if r["arm"] == "uniform" and r["seed"] == 1)
    assert table.rows[1][2] == f"{100 * run['test_accuracy']:.2f}"
    assert table.rows[3][2] == f"{100 * results['arms']['uniform']['mean']:.2f}"


def test_a_run_that_is_missing_leaves_a_dash():
    _, _, results = small()
    results["runs"] = [r for r in results["runs"] if (r["arm"], r["seed"]) != ("targeted", 1)]
    assert accuracy_table(results).rows[1] == (*accuracy_table(results).rows[1][:3], "–")


def test_focus_table_counts_and_averages():
    _, _, results = small()
    table = focus_table(results)
    assert len(table.rows) == 3 * (3 + 1)
    focus = [run["focus"] for run in results["runs"] if run["arm"] == "baseline"]
    assert table.rows[0][2:6] == (
        str(focus[0]["missed"]),
        str(focus[0]["swapped"]),
        str(focus[0]["claimed"]),
        str(focus[0]["missed"] + focus[0]["claimed"]),
    )
    together = np.mean([entry["missed"] + entry["claimed"] for entry in focus])
    assert table.rows[3][5] == f"{together:.1f}"
    assert 3 in table.strong


def test_focus_sentence_fills_the_originals_gap(fashion):
    *_, results = fashion
    runs = [run for run in results["runs"] if run["arm"] == "targeted"]
    together = np.mean([run["focus"]["missed"] + run["focus"]["claimed"] for run in runs])
    text = focus_sentence(results)
    assert text.startswith("The total mislabels from T-shirt/top and Shirt average around ")
    assert f"{together:.0f} in targeted" in text
    assert "% of all mislabels" in text


def test_recall_table_has_a_verdict_for_each_class():
    _, _, results = small()
    entry = contrast(results, "targeted", "uniform")["per_class"][1]
    entry["verdict"] = "worse"
    table = recall_table(results)
    assert table.columns[-2:] == ("targeted − uniform", "verdict")
    assert table.rows[1][-1] == "worse"
    assert table.rows[1][-2].lstrip("+").replace("−", "-") == f"{100 * entry['difference']:.2f}"


@pytest.mark.fault(4)
def test_recall_table_shows_absent_classes_as_a_dash():
    test, logits, _ = small(4)
    keep = test.labels != 2
    test = test.subset(np.flatnonzero(keep))
    logits = {key: scores[keep] for key, scores in logits.items()}
    rows = recall_table(make_results(test, logits)).rows
    assert rows[2][1:] == ("–",) * 5
    assert all("–" not in row[1:] for row in rows[:2])


def test_terminal_shows_answer_and_four_tables(fashion):
    *_, results = fashion
    text = printed(results)
    for expected in (
        headline(results)[:30],
        focus_sentence(results)[:30],
        "Average",
        "95 % interval",
        "Mislabels of",
        "verdict",
    ):
        assert expected in text
    assert "targeted − uniform" in text


@pytest.mark.fault(14)
def test_terminal_never_sees_hostile_names():
    _, _, results = small(5, names=HOSTILE, focus=(2, 3))
    text = printed(results, force_terminal=True, no_color=True, color_system=None)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "red" in text
    assert "[bold]a[/bold]" in text


@pytest.mark.parametrize("width", [20, 60, 200])
def test_any_width_of_terminal_works(width):
    _, _, results = small(runs=1)
    stream = io.StringIO()
    render_tables(results, Console(file=stream, width=width))
    assert max(len(line) for line in stream.getvalue().splitlines()) <= width


def test_contrasts_table_of_one_arm_is_empty():
    _, _, results = small(arms=("baseline",))
    assert contrasts_table(results).rows == ()
    assert "nothing to be compared with" in printed(results)


# figures


@pytest.mark.parametrize("classes", [2, 3, 20, 21, 100])
def test_figures_for_any_count_of_classes(classes):
    _, _, results = small(classes, count=4 * classes, runs=1)
    for name, png in draw_figures(results).items():
        image = Image.open(io.BytesIO(png))
        assert min(image.size) >= 300, name
        assert max(image.size) <= 2200, name


def test_figures_of_all_arms_and_both_themes(fashion):
    *_, results = fashion
    light, dark = draw_figures(results, LIGHT), draw_figures(results, DARK)
    assert (
        set(light)
        == set(dark)
        == {
            "accuracy",
            "recall-change",
            "learning-curves",
            "confusion-baseline",
            "confusion-uniform",
            "confusion-targeted",
            "confusion-difference",
        }
    )
    for pictures, darker in ((light, False), (dark, True)):
        pixel = Image.open(io.BytesIO(pictures["accuracy"])).convert("L").getpixel((1, 1))
        assert (pixel < 60) == darker


def linear_light(colour):
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast_ratio(*colours):
    low, high = sorted(float(linear_light(c) @ [0.2126, 0.7152, 0.0722]) for c in colours)
    return (high + 0.05) / (low + 0.05)


def as_seen(colour, matrix):
    """CIELAB of a colour under a simulation by Machado et al. (2009), severity 1."""
    seen = np.clip(np.array(matrix) @ linear_light(colour), 0, 1)
    rgb_to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = (np.array(rgb_to_xyz) @ seen) / (0.9505, 1, 1.089)
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(3),
        # without green, red and blue cones
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    ],
)
def test_six_arms_are_told_apart_by_everybody(theme, matrix):
    seen = [as_seen(colour, matrix) for colour in theme.arms]
    apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(apart) > 20
    assert all(contrast_ratio(colour, theme.surface) >= 4.5 for colour in theme.arms)


def test_every_arm_has_its_own_colour_marker_and_dashes():
    assert sorted(KNOWN_ARMS) == sorted(COMPARED_ARMS)
    styles = [figures._style(arm, 0, LIGHT) for arm in KNOWN_ARMS]
    for kind in zip(*styles, strict=True):
        assert len(set(map(str, kind))) == 6
    style_sheet = html._own_file("style.css")
    for place, arm in enumerate(KNOWN_ARMS):
        for theme in (LIGHT, DARK):
            assert f"--{arm}: {theme.arms[place]};" in style_sheet


def test_a_comparison_of_all_arms_is_drawn_and_written(tmp_path):
    test, logits, results = small(arms=KNOWN_ARMS)
    text = write_report(tmp_path, results, test, logits).read_text(encoding="utf-8")
    assert all(f'class="card {arm}"' in text for arm in KNOWN_ARMS)
    assert 'class="beside stacked"' in text


def test_one_arm_has_no_differences_to_draw():
    _, _, results = small(arms=("uniform",))
    assert set(draw_figures(results)) == {"accuracy", "learning-curves", "confusion-uniform"}


@pytest.mark.fault(4)
def test_figures_without_a_single_error():
    test = make_dataset()
    logits = {(arm, 0): np.eye(3, dtype=np.float32)[test.labels] for arm in ARMS}
    assert len(draw_figures(make_results(test, logits))) == 7


def test_curves_are_drawn_for_the_runs_that_have_one():
    _, _, results = small(runs=1)
    results["runs"][0]["curve"] = []
    assert "learning-curves" in draw_figures(results, matrices=False)
    for run in results["runs"]:
        run.pop("curve")
    assert set(draw_figures(results, matrices=False)) == {"accuracy", "recall-change"}


def test_curves_are_scaled_to_what_comes_after_the_steep_start():
    _, _, results = small(runs=1, arms=("baseline",))
    results["runs"][0]["curve"] = [(0.2, 0.1, 9.0), (1.0, 0.8, 0.7), (2.5, 0.9, 0.5)]
    assert figures._settled(results, 1) == pytest.approx((79.4, 90.6))
    assert figures._settled(results, 2) == pytest.approx((0.488, 0.712))
    results["runs"][0]["curve"] = [(0.2, 0.1, float("nan"))]
    assert figures._settled(results, 2) == (None, None)


def test_figures_do_not_touch_pyplot_or_the_users_settings():
    script = (
        "import sys, matplotlib;"
        "from matplotlib import rcParams;"
        "rcParams['font.size'] = 33;"
        # reading the backend would load pyplot
        "state = lambda: {k: rcParams[k] for k in rcParams if not k.startswith('backend')};"
        "before = state();"
        "from fmnist_aug.report.canvas import LIGHT, draw;"
        "png = draw(LIGHT, 2, 2, lambda figure: figure.text(.5, .5, '$x^{$ 日本 <b>'));"
        "assert png.startswith(b'\\x89PNG');"
        "assert state() == before;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=120)


def test_importing_the_report_loads_neither_torch_nor_matplotlib():
    script = (
        "import sys, fmnist_aug.report;"
        "heavy = {'torch', 'matplotlib', 'jinja2', 'rich', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.fault(14)
@pytest.mark.parametrize(
    ("arm", "expected"), [("targeted", "targeted"), ("../x/Y", "x-y"), ("", "arm")]
)
def test_file_names_stay_in_their_folder(arm, expected):
    assert file_name(arm) == expected


# galleries


def test_most_often_mislabelled_images_come_first():
    labels = np.array([0, 1, 2, 0])
    right = 5 * np.eye(3)[labels]
    once, twice = right.copy(), right.copy()
    once[1], once[3] = [0, 0, 5], [0, 9, 0]
    twice[3] = [0, 9, 0]
    found = mislabelled_images(labels, [right, once, twice])
    assert [(image.index, image.predicted, image.wrong_runs) for image in found] == [
        (3, 1, 2),
        (1, 2, 1),
    ]
    assert found[0].probability == pytest.approx(np.exp(9) / (np.exp(9) + 2))
    assert found[0].runs == 3
    assert mislabelled_images(labels, [right, once, twice], classes=[1])[0].index == 1
    assert len(mislabelled_images(labels, [once], most=1)) == 1
    assert mislabelled_images(labels, []) == []


@pytest.mark.parametrize("shape", [(3, 3), (4,), (5, 3)])
def test_logits_of_another_data_set_are_refused(shape):
    with pytest.raises(DataError, match="don't fit the 4 test images"):
        mislabelled_images(np.array([0, 1, 2, 0]), [np.zeros(shape)])


@pytest.mark.parametrize("shape", [(28, 28, 1), (1, 1, 3), (300, 5, 3), (2, 400, 1)])
def test_images_of_any_shape_become_small_pngs(shape):
    picture = Image.open(io.BytesIO(image_png(np.full(shape, 7, np.uint8))))
    assert max(picture.size) <= galleries_module.MOST_PIXELS
    assert picture.convert("L").getextrema() == (7, 7)
    strip = Image.open(io.BytesIO(strip_png(np.full((4, *shape), 7, np.uint8))))
    assert strip.size[0] > 4 * picture.size[0] - 1


def test_small_images_keep_every_pixel():
    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28, 1)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image_png(image)))), image[..., 0])


def test_samples_are_limited_and_checked():
    stack = np.zeros((50, 4, 4, 3), np.uint8)
    kept = limit_samples([("a", stack), ("b", stack), ("c", stack)])
    assert [len(images) for _, images in kept] == [50, 30]
    with pytest.raises(DataError, match="uint8"):
        limit_samples([("a", stack.astype(np.float32))])
    with pytest.raises(DataError, match="rows, H, W"):
        limit_samples([("a", stack[0])])


@pytest.mark.fault(14)
def test_contact_sheet_of_one_image():
    test = make_dataset(names=HOSTILE[:3])
    found = mislabelled_images(test.labels, [np.ones((60, 3)) * [1, 0, 0]], most=1)
    assert Image.open(io.BytesIO(contact_sheet(test, found, "one"))).size[0] > 300


# the images behind a cell


def behind(text):
    """What the page's script reads, and the cells that open something."""
    data = json.loads(re.search('id="mistakes">(.*?)</script>', text, re.S)[1])
    cells = []
    for table in re.findall('<table class="matrix".*?</table>', text, re.S):
        arm = re.search(r'^<table class="matrix" data-arm="(\d+)"( data-against)?', table)
        for true, predicted, number in re.findall(
            r'data-true="(\d+)" data-predicted="(\d+)"[^>]*>([^<]*)<', table
        ):
            number = int(number.replace(",", "").replace("−", "-"))
            cells.append((int(arm[1]), bool(arm[2]), int(true), int(predicted), number))
    return data, cells


def listed(data, arm, true, predicted):
    """The entries that the script shows for a cell of an arm."""
    return [
        (run["seed"], place)
        for run in data["runs"]
        if run["arm"] == arm
        for place, choice, _ in run["errors"]
        if choice == predicted and data["images"][place][1] == true
    ]


def test_as_many_images_lie_behind_a_cell_as_it_says(page, fashion):
    results = fashion[2]
    data, cells = behind(page[1])
    assert data["arms"] == list(ARMS)
    numbers = {cell[:4]: cell[4] for cell in cells}
    for (arm, difference, true, predicted), number in numbers.items():
        assert true != predicted
        shown = len(listed(data, arm, true, predicted))
        if difference:
            assert number == shown - len(listed(data, ARMS.index("uniform"), true, predicted))
        else:
            assert number == shown
    for position, arm in enumerate(ARMS):
        total = sum(np.array(r["confusion"]) for r in results["runs"] if r["arm"] == arm)
        np.fill_diagonal(total, 0)
        assert numbers[position, False, 6, 0] == total[6, 0]
        assert sum(n for (a, d, *_), n in numbers.items() if a == position and not d) == total.sum()


def test_what_lies_behind_a_cell_is_what_the_run_predicted(page, fashion):
    test, logits, _ = fashion
    data, _ = behind(page[1])
    for run in data["runs"]:
        scores = logits[data["arms"][run["arm"]], run["seed"]]
        wrong = np.flatnonzero(scores.argmax(axis=1) != test.labels).tolist()
        assert [data["images"][place][0] for place, *_ in run["errors"]] == wrong
        for place, predicted, per_mille in run["errors"][:20]:
            index, true, picture = data["images"][place]
            assert true == test.labels[index]
            assert predicted == scores[index].argmax()
            exponents = np.exp(scores[index] - scores[index].max())
            assert per_mille == pytest.approx(1000 / exponents.sum(), abs=0.51)
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
            assert np.array_equal(pixels, test.images[index, ..., 0])


def test_pictures_shrink_and_then_stop_where_there_are_too_many(monkeypatch):
    test, logits, results = small(size=60, channels=3)
    mistakes = collect_mistakes(results, test.labels, logits)
    monkeypatch.setattr("fmnist_aug.report.mistakes.MOST_PICTURE_BYTES", 12_000)
    data = json.loads(mistakes_json(mistakes, test, test.class_names))
    pictures = [picture for *_, picture in data["images"]]
    assert sum(len(picture or "") for picture in pictures) <= 12_000
    assert None in pictures
    kept = [position for position, picture in enumerate(pictures) if picture]
    times = np.bincount([place for run in data["runs"] for place, *_ in run["errors"]])
    assert min(times[kept]) >= max(times[[p for p in range(len(pictures)) if p not in kept]])
    picture = Image.open(io.BytesIO(base64.b64decode(pictures[kept[0]])))
    assert max(picture.size) == galleries_module.PIXEL_STEPS[-1]


def test_later_seeds_are_left_out_whole_where_there_are_too_many_mistakes(tmp_path):
    test, logits, results = small(runs=3)
    every = collect_mistakes(results, test.labels, logits)
    most = sum(len(run.indices) for run in every.runs if run.seed < 2)
    mistakes = collect_mistakes(results, test.labels, logits, most)
    assert {(run.arm, run.seed) for run in mistakes.runs} == {(a, s) for a in ARMS for s in (0, 1)}
    assert mistakes.seeds_left_out == (2,)
    first = confusion_matrices(results, mistakes)[0]
    assert first.note == "Sum of 2 runs."
    counted = sum(int(cell.text) for _, row in first.rows for cell in row)
    assert counted == 2 * len(test)


def test_predictions_of_another_comparison_are_refused():
    test, logits, results = small()
    results["runs"][0]["confusion"][0][0] += 1
    with pytest.raises(DataError, match="don't give the confusion matrix"):
        collect_mistakes(results, test.labels, logits)
    with pytest.raises(DataError, match="don't fit"):
        collect_mistakes(results, test.labels, {key: s[:, :2] for key, s in logits.items()})


def test_unequal_counts_of_runs_are_compared_a_run():
    test, logits, results = small()
    results["runs"] = [r for r in results["runs"] if (r["arm"], r["seed"]) != ("targeted", 1)]
    *_, difference = confusion_matrices(results, collect_mistakes(results, test.labels, logits))
    assert difference.note.startswith("Images a run")


def test_many_classes_show_those_with_the_most_confusions():
    test, logits, results = small(30, count=300, runs=1)
    mistakes = collect_mistakes(results, test.labels, logits)
    matrix = confusion_matrices(results, mistakes)[0]
    assert len(matrix.rows) == len(matrix.columns) == 20
    assert {"class 0", "class 1"} <= set(matrix.columns), "those that were swapped most"


def test_the_numbers_in_the_cells_can_be_read():
    rules = re.findall(r"background: (#\w{6}); color: (#\w{6})", matrix_style())
    assert len(rules) == 2 * (1 + 8 + 4 + 4)
    for pair in rules:
        assert contrast_ratio(*pair) >= 4.5, pair


def test_doubtful_labels_are_those_that_every_run_contradicts_surely():
    labels = np.array([0, 0, 0, 1, 1, 1])
    sure = 9.0 * np.eye(2)[[0, 0, 1, 1, 1, 1]]
    unsure = sure.copy()
    unsure[1] = [0.0, 0.1]
    found = probably_mislabelled(labels, [sure, unsure])
    assert [(image.index, image.true, image.rival) for image in found] == [(2, 0, 1)]
    assert found[0].rival_probability > 0.99
    assert [image.index for image in hardest_images(labels, [sure, unsure])] == [2, 1]
    assert probably_mislabelled(labels, []) == hardest_images(labels, []) == []


# the page


@pytest.mark.fault(14)
def test_page_is_whole_and_loads_nothing(page):
    _, text = page
    tags = Tags(text)
    assert tags.open == []
    names = [tag for tag, _ in tags.found]
    assert not {"link", "iframe", "object", "form", "base"} & set(names)
    assert "default-src 'none'" in text
    scripts = re.findall("<script([^>]*)>(.*?)</script>", text, re.S)
    assert [attributes for attributes, _ in scripts] == [
        ' type="application/json" id="mistakes"',
        "",
    ]
    # the policy allows this script and no other
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert not re.search("innerHTML|insertAdjacentHTML|eval|fetch|XMLHttp|import", scripts[1][1])
    for tag, attributes in tags.found:
        for key in ("src", "srcset"):
            if key in attributes:
                assert attributes[key].startswith("data:image/png;base64,"), tag
        assert not any(key.startswith("on") or key == "style" for key in attributes)
        if tag == "img":
            assert attributes["alt"]
        if tag == "a":
            assert attributes["href"].startswith("#")
    assert "url(" not in text
    assert "http:" not in text
    assert "https:" not in text


def test_page_answers_and_fills_the_originals_gaps(page, fashion):
    *_, results = fashion
    assert "(95\xa0%" in Tags(page[1]).text, "a line could end between a number and its sign"
    text = Tags(page[1]).text.replace("\xa0", " ")
    assert headline(results) in text
    assert focus_sentence(results) in text
    for row in accuracy_table(results).rows:
        assert row[-1] in text
    for expected in (
        "fmnist-aug compare --preset fast",
        "cd" * 32,
        "ef" * 32,
        "6,000 held-out training images",
        results["plan"]["reason"],
        "sample 3",
        "Shirt → T-shirt/top",
    ):
        assert expected in text


def test_links_inside_the_page_lead_somewhere(page):
    tags = Tags(page[1]).found
    places = {attributes["id"] for _, attributes in tags if "id" in attributes}
    links = {attributes["href"][1:] for tag, attributes in tags if tag == "a"}
    assert links
    assert links <= places


def test_figures_lie_beside_the_page(page):
    folder, _ = page
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {f"confusion-{arm}.png" for arm in ARMS} <= names
    assert {f"mislabelled-{arm}.png" for arm in ARMS} <= names
    assert {
        "accuracy.png",
        "recall-change.png",
        "learning-curves.png",
        "confusion-difference.png",
    } <= names
    assert {path.name for path in folder.iterdir()} == {"figures", "report.html"}


def test_galleries_are_limited(page):
    text = page[1]
    for arm in ARMS:
        part = text.split(f"<summary>Mislabelled by {arm}</summary>")[1].split("</details>")[0]
        assert part.count("<img ") == galleries_module.MOST_IMAGES


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    test, logits, results = small(runs=2)
    for name in ("one", "two"):
        write_report(tmp_path / name, results, test, logits, make_samples(test))
    files = sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 11
    for path in files:
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes()


@pytest.mark.fault(14)
def test_hostile_names_stay_text(tmp_path):
    test, logits, results = small(5, names=HOSTILE, error=0.4)
    results["environment"]["command"] = "fmnist-aug compare --out '</pre><img src=x>'"
    results["dataset"] = "<b>data</b>\ud800"
    text = write_report(tmp_path, results, test, logits, [("<i>", test.images[:2])]).read_text(
        encoding="utf-8"
    )
    assert text.count("<script") == 2
    assert "<img src=x" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    assert "class 4" in text  # a name of nothing but hidden characters


@pytest.mark.fault(4)
@pytest.mark.parametrize(
    "options",
    [
        {"classes": 2, "runs": 1},
        {"classes": 2, "channels": 3, "arms": ("baseline",)},
        {"classes": 4, "arms": ("baseline", "targeted"), "size": 1},
        {"classes": 3, "arms": ("mine", "targeted"), "focus": ()},
        {"classes": 30, "count": 90, "channels": 3, "size": 70, "runs": 1},
        {"classes": 3, "pairs": [], "focus": ()},
        {"classes": 3, "error": 0.0},
    ],
    ids=str,
)
def test_any_shape_of_comparison_makes_a_page(options, tmp_path):
    test, logits, results = small(**options)
    path = write_report(tmp_path, results, test, logits)
    text = path.read_text(encoding="utf-8")
    assert Tags(text).open == []
    assert not re.search(r"\b(nan|None(?! of)|inf)\b", Tags(text).text)
    assert printed(results)


@pytest.mark.fault(4)
def test_no_errors_at_all(tmp_path):
    test = make_dataset(4)
    test = test.subset(np.flatnonzero(test.labels != 3))
    logits = {(arm, 0): 9 * np.eye(4, dtype=np.float32)[test.labels] for arm in ARMS}
    results = make_results(test, logits)
    text = write_report(tmp_path, results, test, logits).read_text(encoding="utf-8")
    assert "Nothing was mislabelled here." in text
    assert not list((tmp_path / "figures").glob("mislabelled-*"))
    assert "mislabelled by every run" not in text


def test_missing_logits_leave_the_gallery_out(tmp_path):
    test, logits, results = small()
    only = {key: scores for key, scores in logits.items() if key[0] == "targeted"}
    write_report(tmp_path, results, test, only)
    names = {path.name for path in (tmp_path / "figures").glob("mislabelled-*")}
    assert names == {"mislabelled-targeted.png"}
    text = write_report(tmp_path, results, test, {}).read_text(encoding="utf-8")
    assert 'id="images"' not in text
    assert "<button" not in text
    assert "<script" not in text


def test_optional_parts_of_the_results_may_be_absent(tmp_path):
    test, logits, results = small()
    for key in ("probe", "fingerprints", "minimum_detectable_difference"):
        del results[key]
    for entry in results["contrasts"]:
        del entry["minimum_detectable_difference"], entry["per_class"]
        entry.update(ci95=None, p_value=None)
    text = write_report(tmp_path, results, test, logits).read_text(encoding="utf-8")
    assert "targeted − uniform is" in Tags(text).text
    assert not re.search(r"\bNone\b", Tags(text).text)


def test_the_largest_page_stays_below_5_megabytes(tmp_path):
    test, logits, results = small(100, size=100, channels=3, count=400, runs=2, error=0.9)
    results["runs"][0]["focus"]["classes"] = list(range(100))
    samples = [(f"noise {row}", test.images[10 * row : 10 * row + 10]) for row in range(20)]
    path = write_report(tmp_path, results, test, logits, samples)
    assert path.read_text(encoding="utf-8").count("<h3>") >= 2
    assert path.stat().st_size < 5_000_000


@pytest.mark.fault(11)
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    test, logits, results = small(runs=1, arms=("baseline",))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(RunFolderError, match="cannot write"):
        write_report(blocked, results, test, logits)


def test_nothing_in_focus_needs_no_table_of_it():
    _, _, results = small(runs=2)
    for run in results["runs"]:
        run["focus"]["classes"] = []
    assert focus_table(results).rows == ()
    text = printed(results)
    assert "Mislabels of" not in text
    assert "No class was in focus" in text


def test_the_interval_of_an_arms_accuracy_stays_on_the_scale():
    test = make_dataset(count=60)
    right = 9 * np.eye(3, dtype=np.float32)[test.labels]
    worse = right.copy()
    worse[0] = [0, 9, 0]
    runs = make_results(test, {("baseline", 0): right, ("baseline", 1): worse})
    low, high = runs["arms"]["baseline"]["ci95"]
    assert 0 < low < runs["arms"]["baseline"]["mean"] < high == 1.0
