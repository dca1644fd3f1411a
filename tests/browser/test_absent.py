"""Every tab of a page whose decoders have not been fetched, or of which only the VDVAE has, in a real browser."""

import json

import numpy as np
import pytest
import torch
from conftest import DATA, write_tiny_bundle
from page_actions import SECONDS
from PIL import Image
from safetensors.torch import load_file
from served import open_browser, open_tab, serve_apps

from recon.decoders.published_models import MODELS

TABS = ("Explore", "Compare", "Brain → image", "Image → brain", "Your data", "Evaluate", "About")
FETCH = "python -m precompute fetch models"
CARDS = ".decoded-cards:visible"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Environments of a page without models, and of one with only the VDVAE, cut to a small width."""
    root = tmp_path_factory.mktemp("absent")
    write_tiny_bundle(root / "bundle", decoders="published")
    vdvae = root / "models" / MODELS["vdvae"].source.split("/")[-1]
    vdvae.parent.mkdir()
    torch.save(load_file(DATA / "vdvae_width32.safetensors"), vdvae)
    entry = {"source": MODELS["vdvae"].source, "sha256": "0" * 64, "files": {vdvae.name: vdvae.stat().st_size}}
    for name, lock in (("without models", {}), ("only the VDVAE", {"vdvae": entry})):
        (root / f"{name}.json").write_text(json.dumps(lock))
    shared = {"RECON_BUNDLE": str(root / "bundle"), "RECON_MODELS": str(vdvae.parent), "HF_HOME": str(root / "hf")}
    return {
        name: shared | {"RECON_LOCK": str(root / f"{name}.json"), "HF_HUB_OFFLINE": "1"}
        for name in ("without models", "only the VDVAE")
    }


@pytest.fixture(scope="module")
def served(places):
    with open_browser() as browser, serve_apps(*places.values()) as urls:
        yield browser, dict(zip(places, urls))


@pytest.fixture(params=("without models", "only the VDVAE"))
def page(served, request):
    """The open page after its first reconstruction; `page.has` lists the stages that it can run."""
    browser, urls = served
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.errors, page.has = [], ["vdvae"] if request.param == "only the VDVAE" else []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(urls[request.param])
    page.wait_for_selector('.view[data-last="true"]', timeout=60 * SECONDS)
    yield page
    assert page.errors == []
    page.close()


def told(page) -> str:
    """What the page says in its corner, closed afterwards."""
    page.wait_for_selector(".toast-body", timeout=30 * SECONDS)
    words = page.locator(".toast-body").first.inner_text()
    page.locator(".toast-close").first.click()
    return words


def images(page, where: str) -> int:
    return page.locator(f"{where} img").count()


def check_cards(page) -> None:
    """Stage 1's layouts if there is a VDVAE, no image of stage 2, and what to do about it."""
    page.wait_for_selector(f'{CARDS}[data-saved="true"]', timeout=60 * SECONDS)
    for source, expected in (("ridge", bool(page.has)), ("mlp", bool(page.has)), ("lcm", False)):
        assert images(page, f"{CARDS} .card.{source}") == expected
    assert FETCH in page.inner_text(CARDS)
    assert page.locator(f"{CARDS} .save").count() == 2 * bool(page.has)


def test_every_tab_opens(page):
    for name in TABS:
        open_tab(page, name)
        page.wait_for_timeout(300)
        assert page.locator("[role=tabpanel]:visible").inner_text().strip()


def test_explore_shows_what_there_is_and_follows_every_change(page):
    stages = "stage 2" if page.has else "stage 1 and stage 2"
    assert f"No decoder for {stages}: run {FETCH}" in page.inner_text(".banner.absent")
    page.click('.thumb[data-index="2"]')
    page.wait_for_selector('.view[data-last="true"][data-index="2"]', timeout=60 * SECONDS)
    assert "picture 2" in page.inner_text(".truth") and "training picture" in page.inner_text(".decoded")
    assert {name: images(page, f".view .card.{name}") for name in ("original", "mlp", "ceiling", "lcm")} == {
        "original": 1,
        "mlp": len(page.has),
        "ceiling": len(page.has),
        "lcm": 0,
    }
    serial = int(page.locator(".view").get_attribute("data-serial"))
    page.locator('.regressor label:has-text("Ridge")').click()  # stage 1 is the same: nothing new to draw
    page.wait_for_selector(f'.view[data-last="true"][data-serial="{serial + 1}"]', timeout=30 * SECONDS)


def test_compare_shows_layouts_or_says_what_is_missing(page):
    open_tab(page, "Compare")
    page.click(".start-grid")
    if not page.has:
        assert FETCH in told(page)
        return
    page.wait_for_selector('.grid[data-last="true"] .save', timeout=90 * SECONDS)
    assert images(page, ".grid td:not(.corner)") == 16 and FETCH in page.inner_text(".grid")


def test_driven_areas_are_decoded_as_far_as_there_are_decoders(page):
    open_tab(page, "Brain → image")  # which decodes silence
    check_cards(page)
    page.wait_for_timeout(SECONDS)
    page.evaluate("document.querySelectorAll('.decoded-cards').forEach(e => e.remove())")
    page.locator(".levels input[type=range]").first.fill("2")
    check_cards(page)


def test_image_to_brain_needs_the_vdvae_and_says_so(page, tmp_path, rng):
    open_tab(page, "Image → brain")
    page.click(".take-picture")
    if not page.has:
        assert FETCH in told(page)
    else:
        check_cards(page)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "mine.png")
    page.evaluate("document.querySelectorAll('.decoded-cards').forEach(e => e.remove())")
    page.locator("input[type=file][accept*=png]").set_input_files(tmp_path / "mine.png")
    if not page.has:
        assert FETCH in told(page)
    else:
        check_cards(page)


def test_own_responses_are_decoded_as_far_as_there_are_decoders(page, tmp_path, rng):
    np.save(tmp_path / "mine.npy", rng.normal(size=(2, 7)))
    open_tab(page, "Your data")
    page.locator("input[type=file][accept*=npy]").set_input_files(tmp_path / "mine.npy")
    check_cards(page)
