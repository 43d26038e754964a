"""The page in a real browser; needs Chromium and the package playwright, or is skipped."""

import shutil

import pytest

from fmnist_aug.report import write_report
from report.made_up import make_samples, small

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><b>", "T-shirt/top")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The page of a comparison whose class names are hostile, and what it said and asked for."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("run")
    test, logits, results = small(count=120, names=HOSTILE, error=0.3)
    path = write_report(folder, results, test, logits, make_samples(test))
    said, asked = [], []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        yield page, said, asked
        browser.close()


def number(button):
    return int(button.text_content().replace(",", "").replace("−", "-"))


def test_a_click_and_the_keyboard_show_as_many_images_as_the_cell_says(opened):
    page, said, asked = opened
    buttons = page.locator("table.matrix:not([data-against]) button")
    assert buttons.count() > 12
    for position in range(buttons.count()):
        button = buttons.nth(position)
        button.click()
        assert page.locator("#behind-list img").count() == number(button)
        page.keyboard.press("Escape")
        assert not page.locator("#behind").is_visible()
    first = page.locator("table.matrix").first
    first.locator("button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    chosen = first.locator("button[tabindex='0']")
    assert (chosen.get_attribute("data-true"), chosen.get_attribute("data-predicted")) == ("1", "2")
    assert page.locator("#behind-list img").count() == number(chosen)
    assert page.locator("#behind-title").text_content() == "</script><b> taken for T-shirt/top"
    page.locator("#behind-close").click()
    assert page.evaluate("document.activeElement.dataset.predicted") == "2", "focus came back"
    assert said == []
    assert [address for address in asked if not address.startswith("data:")] == [page.url]


def test_the_page_is_no_wider_than_a_phone(opened):
    page, *_ = opened
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_difference_shows_the_images_of_both_arms(opened):
    page, *_ = opened
    for button in page.locator("table.matrix[data-against] button").all():
        button.click()
        parts = page.locator("#behind-list section").all()
        counts = [part.locator("img").count() for part in parts]
        assert counts[0] - counts[1] == number(button)
        page.keyboard.press("Escape")
