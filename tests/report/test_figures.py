"""The figures."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fmnist_aug.comparison import ARMS as COMPARED_ARMS
from fmnist_aug.report import canvas, figures, html, write_report
from fmnist_aug.report.canvas import DARK, LIGHT
from fmnist_aug.report.figures import draw_figures, file_name
from fmnist_aug.report.summary import KNOWN_ARMS
from report.made_up import ARMS, contrast_ratio, linear_light, make_dataset, make_results, small


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
def test_all_arms_are_told_apart_by_everybody(theme, matrix):
    seen = [as_seen(colour, matrix) for colour in theme.arms]
    apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(apart) > 20
    assert all(contrast_ratio(colour, theme.surface) >= 4.5 for colour in theme.arms)


def test_every_arm_has_its_own_colour_marker_and_dashes():
    assert sorted(KNOWN_ARMS) == sorted(COMPARED_ARMS)
    styles = [figures._style(arm, 0, LIGHT) for arm in KNOWN_ARMS]
    for kind in zip(*styles, strict=True):
        assert len(set(map(str, kind))) == len(KNOWN_ARMS)
    style_sheet = html._own_file("style.css")
    for place, arm in enumerate(KNOWN_ARMS):
        for theme in (LIGHT, DARK):
            assert f"--{arm}: {theme.arms[place]};" in style_sheet


def test_a_comparison_of_all_arms_is_drawn_and_written(tmp_path):
    test, logits, results = small(arms=KNOWN_ARMS)
    text = write_report(tmp_path, results, test, logits).read_text(encoding="utf-8")
    assert all(f'class="card {arm}"' in text for arm in KNOWN_ARMS)
    assert 'class="beside stacked"' in text


@pytest.mark.parametrize("classes", [2, 6, 10, 20, 30])
def test_nothing_of_a_matrix_is_cut_at_its_edge(classes, monkeypatch):
    def check(theme, width, height, paint):
        with matplotlib.rc_context(canvas._settings(theme)):
            figure = Figure(figsize=(width, height), layout="constrained")
            drawn = FigureCanvasAgg(figure)
            paint(figure)
            drawn.draw()
            for text in figure.findobj(Text):
                if text.get_visible() and text.get_text():
                    box = text.get_window_extent()
                    assert box.x0 >= 0, text
                    assert box.x1 <= figure.bbox.x1, text
                    assert box.y1 <= figure.bbox.y1, text
        return b""

    monkeypatch.setattr(figures, "draw", check)
    _, _, results = small(classes, runs=2, count=4 * classes, arms=(*ARMS, "random-classes"))
    figures.confusion_figure(results, "random-classes")
    figures.difference_figure(results)


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
