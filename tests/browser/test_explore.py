"""The Explore tab: choosing, reading the brain otherwise, sharing, scripting, by keyboard, at both sizes, in both themes."""

import base64
import io
import json

import numpy as np
import pytest
from page_actions import OBSERVE, SECONDS, STAGE_1, STAGE_2, change, choose, press, settle, slide
from PIL import Image
from served import ROOT

from recon.bundle.subject import load_subject

pytestmark = pytest.mark.exhaustive

LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
SHOWN = "Array.from(document.querySelectorAll('.picker-strip .thumb')).map(t => Number(t.dataset.index))"
READ = """([selector, values]) => {
    const range = document.querySelector(selector);
    for (const value of values) {
        range.value = value;
        range.dispatchEvent(new Event("input", {bubbles: true}));
    }
}"""
WITHOUT_HELP = """() => {
    const controls = Array.from(document.querySelectorAll(
        "header button, .picker button, .picker input, .picker select, .view button, .controls input, .controls textarea, " +
        ".controls button, .reading button, .reading input, .reading summary"));
    const helped = c => c.closest("[title]") || c.closest(".block")?.querySelector(".info-text");
    return controls.filter(c => !helped(c)).map(c => c.outerHTML);
}"""
FAINT = """() => {
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
    const ground = e => {
        for (; e; e = e.parentElement) {
            const colour = channels(getComputedStyle(e).backgroundColor);
            if (colour.length == 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const own = e => Array.from(e.childNodes).some(n => n.nodeType == 3 && n.textContent.trim());
    const seen = e => e.offsetParent && getComputedStyle(e).visibility == "visible" && !e.closest(".brain-plot");
    const words = Array.from(document.querySelectorAll("header *, .panel, .panel *, .controls *"));
    return words.filter(e => own(e) && seen(e)).map(e => {
        const [a, b] = [light(channels(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
        return [(a + 0.05) / (b + 0.05), e.className, e.textContent.trim().slice(0, 40)];
    }).filter(([ratio]) => ratio < 4.5);
}"""


def open_page(browser, address, query="", **options):
    """A page in a fresh profile, at rest; `errors` and `hosts` collect what should not be."""
    page = browser.new_context(**{"viewport": LAPTOP} | options).new_page()
    page.errors, page.hosts = [], []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:", address)) else page.hosts.append(r.url))
    page.goto(address + query)
    page.wait_for_selector('[data-last="true"]', timeout=60 * SECONDS)
    return page


@pytest.fixture(scope="module")
def opened(browser, address):
    return open_page(browser, address)


@pytest.fixture
def page(opened):
    yield opened
    assert opened.errors == []
    assert opened.hosts == []


def read(page, selector, *values):
    page.evaluate(READ, [selector, values])


def test_facets_words_and_unseen_narrow_the_strip_and_orders_only_reorder_it(page):
    labels = load_subject(ROOT / "assets" / "demo" / "subject.h5").test.labels
    page.click(".picker-more summary")
    page.select_option(".picker-setting", "city")
    page.fill(".picker-filter", "RED")
    expected = [k for k, x in enumerate(labels) if x["setting"] == "city" and "red" in " ".join(x["captions"]).lower()]
    assert set(expected) <= set(page.evaluate(SHOWN)) and len(page.evaluate(SHOWN)) < 60
    page.fill(".picker-filter", "")
    page.check(".picker-unseen input")
    page.select_option(".picker-light", "sunset")
    wanted = {"setting": "city", "light": "sunset", "unseen": True}
    fitting = [k for k, label in enumerate(labels) if wanted.items() <= label.items()]
    assert page.evaluate(SHOWN) == fitting and page.inner_text(".picker-count").endswith(f"/ {len(fitting)}")
    page.select_option(".picker-light", "")
    before = page.evaluate(SHOWN)
    page.select_option(".picker-sort", "random")
    shuffled = page.evaluate(SHOWN)
    assert shuffled != before and sorted(shuffled) == before
    page.fill(".picker-filter", "nothing has these words")
    assert page.evaluate(SHOWN) == [] and page.inner_text(".picker-count") == "none"
    page.fill(".picker-filter", "")
    change(page, press, ".picker-random")
    assert page.get_attribute(".view", "data-index") in map(str, shuffled)
    page.uncheck(".picker-unseen input")
    page.select_option(".picker-setting", "")
    page.select_option(".picker-sort", "index")
    assert page.evaluate(SHOWN) == list(range(len(labels)))


def test_the_strip_pages(page):
    change(page, choose, 0)
    page.wait_for_function("document.querySelector('.picker-count').textContent.startsWith('1–')")
    page.click(".picker-on")
    page.wait_for_function("!document.querySelector('.picker-count').textContent.startsWith('1–')")
    page.click(".picker-back")
    page.wait_for_function("document.querySelector('.picker-count').textContent.startsWith('1–')")


def test_a_lesion_changes_both_stages_and_reset_restores_them_bit_for_bit(page):
    change(page, choose, 4)
    layouts, picture = "['ridge', 'mlp'].map(s => document.querySelector(`.card.${s} img`).src).join()", STAGE_2
    before = page.evaluate(layouts), page.evaluate(picture)
    page.click(".reading summary")
    change(page, press, '[aria-label="Switch V1 off"]')
    after = page.evaluate(layouts), page.evaluate(picture)
    assert after[0] != before[0] and after[1] != before[1]
    assert "V1 ×0" in page.inner_text(".card.signal .note") and "V1 off" in page.inner_text(".reading-summary")
    change(page, press, ".reading-reset")
    assert (page.evaluate(layouts), page.evaluate(picture)) == before


def test_fewer_components_and_repeats_are_another_picture(page):
    seen = [page.evaluate(STAGE_2)]
    change(page, read, ".reading-components input", 0)
    assert "1 component" in page.inner_text(".card.signal .note")
    seen.append(page.evaluate(STAGE_2))
    change(page, press, '.reading-repeats [data-count="1"]')
    assert "one response, 1 component" in page.inner_text(".card.signal .note")
    seen.append(page.evaluate(STAGE_2))
    change(page, press, ".reading-reset")
    assert len(set(seen)) == 3 and page.evaluate(STAGE_2) == seen[0]


def test_a_gain_that_moves_is_overtaken_by_where_it_ends(page):
    page.evaluate(OBSERVE)
    for gains in ((0.2, 0.4), (0.8, 1.2), (1.4, 1.6, 1.8)):
        read(page, '[data-roi="V2"] input', *gains)
        page.wait_for_timeout(90)
    settle(page)
    frames = page.evaluate("seen")
    serials = [f["serial"] for f in frames]
    assert serials == sorted(serials) and frames[-1]["last"]
    assert "V2 ×1.8" in page.inner_text(".card.signal .note")
    layout = page.evaluate(STAGE_1)
    change(page, slide, "Strength", 0.9)
    assert page.evaluate(STAGE_1) == layout, "stage 1 was computed again for a setting of stage 2"
    change(page, slide, "Strength", 0.8)
    change(page, press, ".reading-reset")


def test_a_random_seed_changes_with_every_picture_and_a_fixed_one_stays(page):
    change(page, choose, 1)
    assert page.input_value(".seed input") == "0"
    page.check(".always-random input")
    settle(page)
    seeds = []
    for k in (2, 3):
        change(page, choose, k)
        seeds.append(page.input_value(".seed input"))
    assert len({*seeds, "0"}) == 3
    page.uncheck(".always-random input")
    page.fill(".seed input", "0")
    page.press(".seed input", "Enter")
    settle(page)


def test_a_link_restores_picture_and_settings_in_a_fresh_profile(page, browser, address):
    change(page, choose, 12)
    change(page, slide, "Guidance", 1.5)
    change(page, press, ".regressor label:has([value=ridge])")
    change(page, press, '[aria-label="Switch PPA off"]')
    change(page, read, ".reading-components input", 3)
    page.click(".copy-link")
    query = page.evaluate("location.search")
    other = open_page(browser, address, query)
    assert other.evaluate(STAGE_2) == page.evaluate(STAGE_2)
    assert other.input_value(".picker-number") == "12"
    assert other.input_value('[aria-label="number input for Guidance"]') == "1.5"
    assert "8 components" in other.inner_text(".reading-summary") and "PPA off" in other.inner_text(".reading-summary")
    assert other.errors == [] and other.hosts == []
    other.context.close()
    change(page, press, ".reading-reset")
    change(page, slide, "Guidance", 1)
    change(page, press, ".regressor label:has([value=mlp])")


def test_the_panel_downloads_as_one_picture_and_its_record(page):
    files = []
    change(page, choose, 12)
    page.on("download", lambda file: files.append(file))
    page.click(".download-panel")
    page.wait_for_function("document.querySelector('.download-panel').textContent == 'Download these pictures'")
    page.wait_for_timeout(SECONDS)
    picture, record = sorted(files, key=lambda f: f.suggested_filename.endswith("json"))
    width, height = Image.open(picture.path()).size
    assert width > 4 * height
    record = json.loads(open(record.path(), encoding="utf-8").read())
    assert record["picture"] == 12 and record["settings"]["lcm"]["seed"] == 0 and record["versions"]["torch"]


def test_the_endpoint_gives_the_pages_picture_bit_for_bit(page, address):
    change(page, choose, 12)
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(address, verbose=False)
    first, again = (client.predict(12, api_name="/reconstruct") for _ in range(2))
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(first["png"]))))
    shown = page.evaluate(STAGE_2).split(",")[1]
    np.testing.assert_array_equal(picture, np.asarray(Image.open(io.BytesIO(base64.b64decode(shown)))))
    assert first == again
    with pytest.raises(Exception, match="index: expected a whole number from 0 to 299, got 999"):
        client.predict(999, api_name="/reconstruct")
    with pytest.raises(Exception, match="LCM steps: expected a whole number from 1 to 8, got 9"):
        client.predict(0, steps=9, api_name="/reconstruct")


def test_the_keyboard_alone_reaches_everything(page):
    change(page, choose, 12)
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(140):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(e => e.getAttribute('aria-label') || e.textContent.trim())(document.activeElement)")
        )
    for name in (
        "Take the tour", "Light or dark", "Test picture 12", "Surprise me", "Search the captions", "Order of the pictures",
        "Enlarge: Final picture", "Copy link", "Download these pictures", "range slider for Steps", "Seed", "Components kept",
        "Strength of V1", "Switch V1 off",
    ):  # fmt: skip
        assert name in reached, f"{name} is out of reach of the Tab key"
    page.focus(".thumb.chosen")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('.view[data-index="13"][data-last="true"]', timeout=20 * SECONDS)
    page.focus(".pair .lcm .enlarge")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] .of-left:has-text('drawn from the brain')")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("dialog .cut input") == "48"
    assert page.evaluate("getComputedStyle(document.querySelector('.under-cut')).clipPath") == "inset(0px 0px 0px 48%)"
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")


def test_every_control_has_a_line_of_help(page):
    assert page.evaluate(WITHOUT_HELP) == []


@pytest.mark.parametrize("size, scheme", [(LAPTOP, "light"), (LAPTOP, "dark"), (PHONE, "light")], ids=str)
def test_both_themes_are_legible_at_both_sizes(page, size, scheme):
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.wait_for_selector(f":root[data-theme={scheme}]")
    for _ in range(20):  # colours take a moment to change
        page.wait_for_timeout(SECONDS / 4)
        if not (faint := page.evaluate(FAINT)):
            break
    assert faint == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    bottom = "selector => document.querySelector(selector).getBoundingClientRect().bottom + scrollY"
    if size is LAPTOP:  # as it opens, with filters folded
        page.reload()
        page.wait_for_selector('[data-last="true"]', timeout=60 * SECONDS)
        assert max(page.evaluate(bottom, panel) for panel in (".hero", ".brain")) <= 768
    page.set_viewport_size(LAPTOP)


def test_the_chosen_theme_outlives_a_reload(page):
    page.emulate_media(color_scheme="dark")
    page.click(".theme-switch")
    page.wait_for_selector(":root[data-theme=light]")
    page.reload()
    page.wait_for_selector(':root[data-theme=light] [data-last="true"]', timeout=60 * SECONDS)
    assert not page.evaluate("document.body.classList.contains('dark')")
