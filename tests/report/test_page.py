"""The page as a whole."""

from __future__ import annotations

import base64
import hashlib
import re

import numpy as np
import pytest

from fmnist_aug.errors import RunFolderError
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.report import galleries as galleries_module
from fmnist_aug.report import headline, write_report
from fmnist_aug.report.summary import focus_sentence
from fmnist_aug.report.tables import accuracy_table
from report.made_up import (
    ARMS,
    HOSTILE,
    Tags,
    make_dataset,
    make_results,
    make_samples,
    printed,
    small,
)


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


def test_page_tells_when_and_how_strongly_extras_are_drawn(tmp_path):
    # the numbers of extra draws alone are those of a plan that is in force all along
    test, logits, results = small(runs=1)
    results["plan"].update(start=0.5, stop=0.9, strength=2.0, keep=0.5)
    text = write_report(tmp_path, results, test, logits).read_text(encoding="utf-8")
    text = Tags(text).text.replace("\xa0", " ")
    for line in ConfusionPlan.from_dict(results["plan"]).describe_draws():
        assert line in text
    assert "extra draws from 50% of the training on" in text
    assert "strength × 2" in text
    assert "draws trained on: 50%" in text


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


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (ARMS, "One sees what augmenting does (uniform − baseline) and what aiming it at the"),
        (
            ("uniform", "targeted"),
            "aiming it at the confused classes and skipping easy draws does (targeted − uniform).",
        ),
        (
            ("uniform", "targeted", "hard-only"),
            "and what aiming it at the confused classes does (targeted − hard-only).",
        ),
        (("baseline", "targeted"), ""),
        (("targeted",), ""),
    ],
    ids=str,
)
def test_the_page_explains_the_contrasts_of_the_arms_that_ran(arms, said, tmp_path):
    test, logits, results = small(arms=arms)
    text = " ".join(write_report(tmp_path, results, test, logits).read_text("utf-8").split())
    assert said in text
    assert ("One sees" in text) == bool(said)
    assert ("the same number of steps" in text) == (len(arms) > 1)


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
        del entry["minimum_detectable_difference"], entry["with_more_runs"], entry["per_class"]
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
