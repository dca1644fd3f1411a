"""The Evaluate tab in a real browser, on a tiny bundle with a made-up evaluation."""

import json

import pytest
from conftest import write_tiny_bundle
from page_actions import SECONDS
from served import open_tab, serve_apps
from stand_in_evaluation import made_up_evaluation

from recon.bundle.evaluation import load_evaluation, save_evaluation
from recon.bundle.manifest import rewrite_manifest
from recon.bundle.subject import load_subject
from recon.ui.html.number_format import score

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_tiny_bundle(tmp_path_factory.mktemp("evaluated") / "bundle")
    save_evaluation(folder, made_up_evaluation(load_subject(folder / "subject.h5").test.images))
    rewrite_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with serve_apps({"RECON_BUNDLE": str(folder)}) as (url,):
        yield url


@pytest.fixture(scope="module", params=[(1366, 768), (390, 844)], ids=["laptop", "phone"])
def page(request, browser, address):
    """The open tab with its gallery; `page.errors` collects what should not be."""
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".view[data-index]", timeout=60 * SECONDS)
    open_tab(page, "Evaluate")
    page.wait_for_selector(".gallery img", timeout=30 * SECONDS)
    yield page
    assert page.errors == []
    page.close()


def choose(page, value):
    page.locator(f".evaluate-controls input[value={value}]").dispatch_event("click")


def test_wide_tables_scroll_in_themselves(page):
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    scroll = "[...document.querySelectorAll('.scroll')].map(e => [e.clientWidth, getComputedStyle(e).overflowX])"
    assert all(0 < w <= width and overflow == "auto" for w, overflow in page.evaluate(scroll))
    assert page.locator(".scores-table table").bounding_box()["width"] > (width if width < 700 else 0)


def test_choices_change_the_charts(page, folder):
    charts = "[...document.querySelectorAll('.chart')].map(e => e.innerHTML)"
    first = page.evaluate(charts)
    choose(page, "ssim")
    page.wait_for_selector(".bottleneck h2:has-text('SSIM')", timeout=20 * SECONDS)
    page.wait_for_selector(".distribution h2:has-text('Stage 2, SSIM')")
    assert all(a != b for a, b in zip(first, page.evaluate(charts)))
    choose(page, "vdvae")
    page.wait_for_selector(".distribution h2:has-text('Stage 1, SSIM')", timeout=20 * SECONDS)
    page.fill(".evaluate-controls .seed input", "3")
    page.wait_for_selector(".distribution .legend:has-text('picture 3')", timeout=20 * SECONDS)
    value = load_evaluation(folder).image_scores["vdvae/mlp/ssim"][3]
    assert f"MLP scores {score('ssim', value)}" in page.inner_text(".distribution figcaption")


def test_galleries_change_and_state_their_rule(page):
    assert "drawn at random, seed 0" in page.inner_text(".gallery[data-group=random] .about")
    choose(page, "worst")
    page.wait_for_selector(".gallery[data-group=worst]", timeout=20 * SECONDS)
    assert "lowest rank" in page.inner_text(".gallery .about")
    widths = "[...document.querySelectorAll('.gallery img')].map(e => e.naturalWidth)"
    page.wait_for_function(f"{widths}.every(w => w > 0)")


def test_explores_picture_is_marked_when_the_tab_is_opened(page):
    open_tab(page, "Explore")
    page.click('.thumb[data-index="2"]')
    page.wait_for_selector(".view[data-index='2']", timeout=30 * SECONDS)
    open_tab(page, "Evaluate")
    page.wait_for_selector(".distribution .legend:has-text('picture 2')", timeout=20 * SECONDS)
    assert page.input_value(".evaluate-controls .seed input") == "2"


def test_the_table_is_downloaded_whole(page, folder):
    for label, name in (("Table as CSV", "evaluation.csv"), ("Everything as JSON", "evaluation.json")):
        with page.expect_download(timeout=20 * SECONDS) as download:
            page.click(f"text={label}")
        assert download.value.suggested_filename == name
        assert download.value.path().read_bytes() == (folder / name).read_bytes()
    assert json.loads((folder / "evaluation.json").read_text())["rows"]
