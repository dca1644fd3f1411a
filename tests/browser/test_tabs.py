"""The tabs beside Explore, in a real browser, served by `python app.py`."""

import base64
import io
import json

import numpy as np
import pytest
from page_actions import SECONDS
from PIL import Image
from served import open_browser, open_tab, serve_apps

SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
DRIVEN = """area => {  // stage 2's image, once that area is decoded and can be saved
    const link = document.querySelector('.decoded-cards .save[href^="data:application/json"]');
    const done = link && area in JSON.parse(atob(link.href.split(",")[1])).levels;
    return done && document.querySelector(".decoded-cards .card.lcm img").src;
}"""
TABS = ("Explore", "Compare", "Brain → image", "Image → brain", "Your data", "Evaluate", "About")

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def browser_and_address():
    with open_browser() as browser, serve_apps({}) as (url,):
        yield browser, url


@pytest.fixture(params=SIZES)
def page(browser_and_address, request):
    """The open page; `page.errors` and `page.hosts` collect what should not be."""
    browser, url = browser_and_address
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.errors, page.hosts = [], set()
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:", url)) else page.hosts.add(r.url))
    page.goto(url)
    page.wait_for_selector('.view[data-last="true"]', timeout=90 * SECONDS)
    yield page
    assert page.errors == [] and page.hosts == set()
    page.close()


def on_tab(browser, url, name):
    """A laptop's page on that tab, after its first reconstruction."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.goto(url)
    page.wait_for_selector('.view[data-last="true"]', timeout=90 * SECONDS)
    open_tab(page, name)
    return page


def saved(page, name) -> bytes:
    """What a link of the page would save."""
    href = page.locator(f'.save:visible:has-text("{name}")').get_attribute("href")
    return base64.b64decode(href.split(",", 1)[1])


def source(page, card=".decoded-cards:visible .card.lcm img") -> str:
    return page.locator(card).get_attribute("src")


def wait_for_cards(page):
    page.wait_for_selector('.decoded-cards[data-saved="true"]:visible', timeout=60 * SECONDS)


def test_every_tab_opens_without_errors_and_none_is_wider_than_the_screen(page):
    for name in TABS:
        open_tab(page, name)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), name


def test_driven_areas_change_the_picture_and_can_be_saved(page):
    open_tab(page, "Brain → image")
    assert "No picture was shown" in page.locator(".lead:visible").inner_text()
    pictures = []
    for area in ("PPA", "FFA"):
        page.click(".preset input")
        page.locator(f'[role=option]:has-text("{area}")').click()
        pictures.append(page.wait_for_function(DRIVEN, arg=area, timeout=60 * SECONDS).json_value())
    assert pictures[0] != pictures[1]
    record = json.loads(saved(page, "Save JSON"))
    assert record["levels"] == {"FFA": 2.0} and "no picture" in record["response"]
    assert Image.open(io.BytesIO(saved(page, "Save PNG"))).text["recon"]


def test_silence_stands_beside_what_driven_areas_give_and_the_mean_of_five_seeds(browser_and_address):
    page = on_tab(*browser_and_address, "Brain → image")
    silence = page.wait_for_selector(".card.silence:visible img", timeout=60 * SECONDS).get_attribute("src")
    assert page.locator(".decoded-cards:visible .card").count() == 1
    page.click(".mean-of-seeds input")
    page.click(".preset input")
    page.locator('[role=option]:has-text("unlabelled")').click()
    wait_for_cards(page)
    kinds = ("silence", "lcm", "mean")
    shown = [page.locator(f".decoded-cards:visible .card.{kind} img").get_attribute("src") for kind in kinds]
    assert shown[0] == silence and len(set(shown)) == 3
    assert "cosine" in page.locator(".decoded-cards:visible .said").inner_text()
    page.mouse.move(200, 600)
    page.mouse.wheel(0, 3000)
    page.wait_for_timeout(300)
    assert page.locator(".decoded-cards:visible .card.lcm img").bounding_box()["y"] >= 0
    page.close()


def test_an_area_is_not_called_driven_alone_once_another_slider_moves(browser_and_address):
    page = on_tab(*browser_and_address, "Brain → image")
    page.click(".preset input")
    page.locator('[role=option]:has-text("RSC")').click()
    page.wait_for_function(DRIVEN, arg="RSC", timeout=60 * SECONDS)
    number = page.locator('.levels .block:has-text("hV4") input[type=number]:visible').last
    number.fill("1")
    number.press("Enter")
    page.wait_for_function(DRIVEN, arg="hV4", timeout=60 * SECONDS)
    assert page.locator(".preset input").input_value() == "none"
    page.close()


def test_a_row_is_followed_when_its_field_is_left(browser_and_address, tmp_path, demo_bundle):
    page = on_tab(*browser_and_address, "Your data")
    np.save(tmp_path / "two.npy", demo_bundle.subject.test.averaged()[:2])
    page.locator("input[type=file][accept*=npy]").set_input_files(tmp_path / "two.npy")
    wait_for_cards(page)
    before = source(page)
    page.locator('label:has-text("Row") input:visible').fill("1")
    page.locator('label:has-text("Seed") input:visible').focus()
    page.wait_for_function(
        "before => [...document.querySelectorAll('.decoded-cards .card.lcm img')].some(i => i.offsetParent && i.src !== before)",
        arg=before,
        timeout=30 * SECONDS,
    )
    wait_for_cards(page)
    assert json.loads(saved(page, "Save JSON"))["row"] == 1
    page.close()


def test_titles_of_two_lines_leave_the_images_of_a_row_on_one_line(browser_and_address):
    browser, url = browser_and_address
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(url)
    page.wait_for_selector('.view[data-last="true"]', timeout=90 * SECONDS)
    for width, row in ((1280, 5), (1100, 5), (834, 5), (720, 5), (360, 2), (320, 2)):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(200)
        tops = [box["y"] for box in (e.bounding_box() for e in page.locator(".way .card > :nth-child(2)").all()) if box]
        assert len(tops) == 5 and max(tops[:row]) - min(tops[:row]) < 1, (width, tops)
    page.close()


def test_an_area_that_is_chosen_while_another_is_decoded_is_decoded_after_it(page):
    open_tab(page, "Brain → image")
    for area in ("PPA", "FFA"):
        page.click(".preset input")
        page.locator(f'[role=option]:has-text("{area}")').click()
        page.wait_for_selector(".decoded-cards", timeout=60 * SECONDS)
    page.wait_for_function(DRIVEN, arg="FFA", timeout=60 * SECONDS)


def test_a_comparison_fills_and_is_saved_as_one_picture(browser_and_address):
    page = on_tab(*browser_and_address, "Compare")
    page.click(".start-grid")
    page.wait_for_selector('.grid[data-last="true"] .save', timeout=90 * SECONDS)
    assert page.locator(".grid td:not(.corner) img").count() == 16
    assert len({i.get_attribute("src") for i in page.locator(".grid td:not(.corner) img").all()}) > 8
    sheet = Image.open(io.BytesIO(saved(page, "Save the grid")))
    assert sheet.width > 700 and sheet.height > 700
    page.close()


def test_a_stopped_comparison_can_be_saved_as_far_as_it_got(browser_and_address):
    browser, address = browser_and_address
    page = on_tab(browser, f"{address}?picture=11", "Compare")  # of which nothing has been computed
    page.click(".start-grid")
    page.wait_for_selector('.grid:not([data-done="0"])', timeout=60 * SECONDS)
    page.click(".stop-grid")
    page.wait_for_selector(".grid .save", timeout=60 * SECONDS)
    assert page.locator(".grid td:not(.corner) img").count() < 16
    assert Image.open(io.BytesIO(saved(page, "Save the grid"))).width > 700
    page.close()


def test_a_dropped_picture_comes_back_as_predicted_not_measured(browser_and_address, tmp_path, rng):
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).resize((600, 450)).save(tmp_path / "mine.png")
    page = on_tab(*browser_and_address, "Image → brain")
    assert "Predicted, not measured" in page.locator(".lead:visible").inner_text()
    field = page.locator("input[type=file][accept*=png]")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "mine.png").read_bytes()[:900])
    field.set_input_files(tmp_path / "damaged.png")
    page.wait_for_selector('.toast-body:has-text("picture: the file is damaged")', timeout=20 * SECONDS)
    page.locator('button[aria-label="Clear"]:visible, button[aria-label="Remove this file"]:visible').first.click()
    field.set_input_files(tmp_path / "mine.png")
    wait_for_cards(page)
    record = json.loads(saved(page, "Save JSON"))
    assert "predicted" in record["response"] and record["picture"] == "uploaded"
    assert page.locator(".decoded-cards:visible .card").count() == 4
    page.evaluate("document.querySelectorAll('.decoded-cards').forEach(e => e.remove())")
    number = page.locator('label:has-text("or a test picture") input:visible').input_value()
    page.click(".take-picture")
    wait_for_cards(page)
    assert json.loads(saved(page, "Save JSON"))["picture"] == int(number)  # Explore's
    assert "correlates with the response that was measured" in page.locator(".brain-help:visible").inner_text()
    page.close()


BAD = {
    "too few voxels": lambda path: np.save(path, np.zeros(7)),
    "NaN": lambda path: np.save(path, np.full(3672, np.nan)),
    "strings": lambda path: np.save(path, np.array(["a"])),
    "complex": lambda path: np.save(path, np.zeros(3672, complex)),
    "three dimensions": lambda path: np.save(path, np.zeros((1, 1, 3672))),
    "no rows": lambda path: np.save(path, np.zeros((0, 3672))),
    "objects": lambda path: np.save(path, np.array([{}], object), allow_pickle=True),
    "text": lambda path: path.write_text("1, 2, 3"),
    "empty": lambda path: path.write_bytes(b""),
    "infinity": lambda path: np.save(path, np.full(3672, np.inf)),
}


def test_responses_of_ones_own_are_decoded_and_ten_kinds_of_bad_file_refused_in_one_sentence(
    browser_and_address, tmp_path, demo_bundle
):
    page = on_tab(*browser_and_address, "Your data")
    field = page.locator("input[type=file][accept*=npy]")
    for kind, write in BAD.items():
        path = tmp_path / f"{kind}.npy"
        write(path)
        field.set_input_files(path)
        page.wait_for_selector(".toast-body", timeout=20 * SECONDS)
        words = page.locator(".toast-body").first.inner_text()
        assert "xpected" in words or "is not a whole" in words, (kind, words)
        page.locator(".toast-close").first.click()
        page.wait_for_selector(".toast-body", state="detached", timeout=10 * SECONDS)
        page.locator('button[aria-label="Clear"]:visible, button[aria-label="Remove this file"]:visible').first.click()
    np.save(tmp_path / "good.npy", demo_bundle.subject.test.averaged()[:2])
    field.set_input_files(tmp_path / "good.npy")
    wait_for_cards(page)
    assert json.loads(saved(page, "Save JSON"))["rows"] == 2
    page.close()


REMOVE = 'button[aria-label="Clear"]:visible, button[aria-label="Remove this file"]:visible'


def refused_and_gone(page, field, path, words):
    """Puts a bad file in the place of the one before it: it is refused, and nothing of the other is left."""
    page.locator(REMOVE).first.click()
    field.set_input_files(path)
    page.wait_for_selector(f'.toast-body:has-text("{words}")', timeout=20 * SECONDS)
    page.wait_for_selector(".decoded-cards:visible", state="detached", timeout=5 * SECONDS)
    assert page.locator(".said:visible").count() == 0


def test_a_response_that_explore_gives_away_is_read_and_nothing_of_it_stays_after_a_refusal(
    browser_and_address, tmp_path
):
    page = on_tab(*browser_and_address, "Your data")
    with page.expect_download() as download:
        page.click(".sample .download-response")
    download.value.save_as(tmp_path / "given.npy")
    np.save(tmp_path / "bad.npy", np.zeros(7))
    field = page.locator("input[type=file][accept*=npy]")
    field.set_input_files(tmp_path / "given.npy")
    wait_for_cards(page)
    assert "one response of 3,672 voxels" in page.locator(".tab-controls .said:visible").inner_text()
    refused_and_gone(page, field, tmp_path / "bad.npy", "expected 3672 voxels in a row")
    page.locator(".start-own").click()
    page.wait_for_selector('.toast-body:has-text("Choose a file first")', timeout=20 * SECONDS)
    page.close()


def test_what_is_cut_off_a_picture_is_told_and_nothing_of_it_stays_after_a_refusal(browser_and_address, tmp_path):
    Image.new("RGBA", (600, 400), (200, 40, 40, 0)).save(tmp_path / "mine.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page = on_tab(*browser_and_address, "Image → brain")
    field = page.locator("input[type=file][accept*=png]")
    field.set_input_files(tmp_path / "mine.png")
    wait_for_cards(page)
    said = " ".join(page.locator(".said:visible").all_inner_texts())
    assert "its middle 400 × 400 are decoded" in said and "put on grey" in said
    number = page.locator('label:has-text("or a test picture") input:visible')
    number.fill("9999")
    number.press("Enter")
    page.wait_for_selector('.toast-body:has-text("9999")', timeout=20 * SECONDS)
    assert page.locator(".decoded-cards:visible .card").count() == 4  # what was there stays, whole
    refused_and_gone(page, field, tmp_path / "bad.png", "expected a PNG, JPEG or WebP file")
    page.close()


def test_a_gallerys_picture_is_enlarged_over_its_original(browser_and_address):
    page = on_tab(*browser_and_address, "Evaluate")
    page.locator(".gallery tr.nearest_training .enlarge").first.click()
    assert page.locator(".lightbox .of-left").inner_text() == "a training picture"
    shown, behind = (page.locator(f".lightbox .{c}").get_attribute("src") for c in ("top", "under-cut"))
    assert shown != behind == page.locator(".gallery tr.original img").first.get_attribute("src")
    page.close()


def test_about_tells_what_is_simulated_and_whom_to_cite(page):
    open_tab(page, "About")
    words = page.locator(".panel.about").inner_text()
    assert "simulated subject" in words and "diffusers" in words and "Ozcelik" in words and "ceiling" in words
    assert page.locator(".glossary dt").count() == page.evaluate("Object.keys(WORDS.TERMS).length")
