"""The page in a real browser, served by `python app.py`."""

import os
import re
import time
from contextlib import contextmanager

import numpy as np
import pytest
from page_actions import (
    CHOOSE,
    OBSERVE,
    SECONDS,
    STAGE_1,
    STAGE_2,
    change,
    choose,
    choose_prompt,
    enter,
    press,
    settle,
    slide,
    write,
)

PICKS = (5, 17, 41)

PIXELS = """source => {
    const image = document.querySelector(`.card.${source} img`);
    const canvas = Object.assign(document.createElement("canvas"), {width: 32, height: 32});
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, 32, 32);
    return Array.from(context.getImageData(0, 0, 32, 32).data);
}"""
NO_WEBGL = """const getContext = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    return kind.includes("webgl") ? null : getContext.call(this, kind, ...rest);
};"""
BRAIN = "document.querySelector('.brain-plot').data.map(trace => trace.vertexcolor?.join(';')).join('|')"


@contextmanager
def opened(browser, address, script):
    """The open page after its first reconstruction; `page.errors` and `page.hosts` collect what should not be."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.add_init_script(script)
    page.errors, page.hosts = [], set()
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:", address)) else page.hosts.add(r.url))
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_selector('[data-last="true"]', timeout=60 * SECONDS)
    print(f"\nfirst reconstruction {time.perf_counter() - start:.1f} s after the page was asked for")
    yield page
    page.close()


@pytest.fixture
def whole(browser, address):
    with opened(browser, address, "") as page:
        yield page


@pytest.fixture
def page(browser, address):
    """Without WebGL, so that no brain is drawn: in software that takes longer than all the rest."""
    with opened(browser, address, NO_WEBGL) as page:
        yield page


def pixels(page):
    """Source -> (32, 32, 4) pixels on screen."""
    page.wait_for_function("Array.from(document.querySelectorAll('.card img')).every(i => i.complete)")
    sources = ("original", "ridge", "mlp", "lcm", "ceiling")
    return {s: np.array(page.evaluate(PIXELS, s), float).reshape(32, 32, 4) for s in sources}


def wait_for_brain(page):
    page.wait_for_selector('.brain[data-ready="true"]', timeout=60 * SECONDS)


def test_choosing_a_picture_changes_every_picture_and_the_brain(whole, tmp_path):
    wait_for_brain(whole)
    assert "variance that the encoding model predicts" in whole.inner_text(".brain-help")
    whole.select_option(".brain-map", "response")
    seen, brains = [pixels(whole)], [whole.evaluate(BRAIN)]
    for index in PICKS:
        print(f"picture {index}: last of stage 2 {whole.evaluate(CHOOSE, index):.0f} ms after the click")
        seen.append(pixels(whole))
        whole.wait_for_function(f"before => {BRAIN} !== before", arg=brains[-1], timeout=20 * SECONDS)
        brains.append(whole.evaluate(BRAIN))
    for shown in seen:
        names = list(shown)
        for k, a in enumerate(names):
            assert shown[a].std() > 1
            for b in names[k + 1 :]:
                assert np.abs(shown[a] - shown[b]).max() > 2, f"{a} and {b} look the same"
    for before, after in zip(seen, seen[1:]):
        for name in before:
            assert (before[name] != after[name]).any(), f"{name} did not change"
    whole.select_option(".brain-map", "r2")
    whole.wait_for_timeout(1 * SECONDS)
    whole.screenshot(path=os.environ.get("SCREENSHOT", tmp_path / "whole.png"))
    assert whole.errors == []
    assert whole.hosts == set()


def test_fast_changes_end_at_the_last_choice(page):
    for _ in range(3):
        page.evaluate("[3, 9, 21].forEach(k => document.querySelectorAll('.thumb')[k].click())")
        page.wait_for_timeout(120)
    page.evaluate("[44, 60].forEach(k => document.querySelectorAll('.thumb')[k].click())")
    settle(page)
    assert page.get_attribute("[data-index][data-last]", "data-index") == "60"
    assert page.input_value(".picker-number") == "60"


def test_stage_2_streams_as_many_steps_as_the_slider_says(page):
    for n in (1, 8, 3):
        frames, _ = change(page, slide, "Steps", n)
        assert [f["step"] for f in frames] == list(range(1, n + 1))
        assert page.inner_text(".scrub output") == f"step {n} of {n}"
        assert page.locator(".progress p:nth-child(2) i").count() == n
        assert page.locator(".progress p:nth-child(2) i.on").count() == n
        assert page.text_content(".progress p:nth-child(2) b").endswith(f"{n} UNet step{'s' * (n > 1)}")


def test_settings_rerun_stage_2_alone(page):
    settle(page)
    frames, whole = change(page, choose, 7)
    assert list(dict.fromkeys(f["step"] for f in frames)) == [0, 1, 2, 3, 4]  # 0: stage 1
    assert len({f["height"] for f in frames}) == 1, "the layout jumps"
    for label, value in (("Guidance", 1.6), ("Strength", 0.9), ("Steps", 5)):
        layout, picture = page.evaluate(STAGE_1), page.evaluate(STAGE_2)
        frames, took = change(page, slide, label, value)
        print(f"{label} {value}: {took:.0f} ms, a new picture {whole:.0f} ms")
        assert all(f["step"] > 0 for f in frames), "stage 1 was shown again"
        assert page.evaluate(STAGE_1) == layout, "stage 1 was computed again: its time has changed"
        assert page.evaluate(STAGE_2) != picture


def test_the_newest_of_quick_changes_is_what_stays(page):
    settle(page)
    page.evaluate(OBSERVE)
    for k, guidance, steps in ((3, 1.2, 6), (9, 1.4, 2), (21, 1.9, 8)):
        slide(page, "Guidance", 1.1, guidance)
        choose(page, k)
        slide(page, "Steps", steps, steps - 1)
        page.wait_for_function("k => seen.some(f => f.index == k)", arg=k, timeout=60 * SECONDS)
    slide(page, "Guidance", 1.3, 1.5, 1.7)
    slide(page, "Steps", 8, 5, 3)
    page.wait_for_function("seen.at(-1).last && seen.at(-1).index == 21 && seen.at(-1).step == 3", timeout=60 * SECONDS)
    frames, quick = page.evaluate("seen"), page.evaluate(STAGE_2)
    serials = [f["serial"] for f in frames]
    print("frames seen (serial:step):", " ".join(f"{f['serial']}:{f['step']}" for f in frames))
    assert serials == sorted(serials), "a frame of old settings came after one of new settings"
    assert frames[-1]["index"] == 21 and frames[-1]["step"] == 3
    assert len(set(serials)) > 2, "nothing was shown on the way"
    assert any(not f["last"] and f["serial"] != g["serial"] for f, g in zip(frames, frames[1:])), "no run was stopped"

    page.goto(page.url.split("?")[0])  # without the settings that a reload brings back
    settle(page)
    change(page, choose, 21)
    change(page, slide, "Guidance", 1.7)
    change(page, slide, "Steps", 3)
    assert page.evaluate(STAGE_2) == quick


def test_regressor_seed_and_prompt_change_the_picture(page):
    settle(page)
    seen = [page.evaluate(STAGE_2)]
    for act, *args in (
        (press, "label:has([value=ridge])"),
        (press, ".random-seed"),
        (choose_prompt, "caption"),
        (choose_prompt, "none"),
        (choose_prompt, "own"),
        (write, ".own textarea", "a <b>green</b> cat"),
    ):
        change(page, act, *args)
        seen.append(page.evaluate(STAGE_2))
    assert len(set(seen)) == len(seen)
    assert page.inner_text(".way .chosen figcaption") == "Rough layout (ridge)"
    assert "“a <b>green</b> cat”" in page.inner_text(".prompt-used")
    assert page.errors == []


def test_both_captions_are_there_whatever_the_prompt(page):
    change(page, choose, 0)
    for source in ("decoded", "none"):
        choose_prompt(page, source)
        settle(page)
        assert page.is_visible("text=a pink plane between tall buildings in the evening light")
        assert page.inner_text(".truth").startswith("seen")
        assert re.fullmatch(r"read from brain\s*“.+” \(cosine −?[01]\.\d\d\)", page.inner_text(".decoded"))
        assert re.search(r"its details need not fit.+ranks [\d.]+ of 300 test pictures", page.inner_text(".why"))
        assert "nearest to the CLIP image embedding" in page.get_attribute(".decoded", "title")


def test_the_oracle_carries_a_warning(page):
    assert page.locator(".badge.warning").count() == 0
    change(page, choose_prompt, "oracle")
    assert page.inner_text(".card.lcm .badge.warning") == "⚠ knows the answer"
    assert "which know the answer" in page.inner_text(".hero-words")
    assert page.is_visible(".prompt-used .badge.warning")
    change(page, choose_prompt, "decoded")
    assert page.locator(".badge.warning").count() == 0


def test_bad_values_are_refused_in_words(page):
    settle(page)
    assert not page.is_visible(".own")
    change(page, choose_prompt, "own")
    write(page, ".own textarea", " ")
    page.wait_for_selector("text=Type some words, or choose another prompt.", timeout=20 * SECONDS)
    change(page, choose_prompt, "none")
    for field, value, message in (
        (".seed input", "", "seed: expected a whole number from 0 to 4294967295, got None"),
        (".seed input", "1.5", "seed: expected a whole number from 0 to 4294967295, got 1.5"),
        ('[aria-label="number input for Steps"]', "", "LCM steps: expected a whole number from 1 to 8, got None"),
    ):
        enter(page, field, value)
        page.wait_for_selector(f"text={message}", timeout=20 * SECONDS)
        change(page, enter, field, "2")
    page.evaluate(CHOOSE, 8)
    assert page.inner_text(".scrub output") == "step 2 of 2"


def test_a_picture_that_does_not_exist_is_refused_in_words(page):
    before = page.get_attribute("[data-index][data-last]", "data-index")
    page.fill(".picker-number", "999999")
    page.press(".picker-number", "Enter")
    page.wait_for_selector(
        "text=There is no picture 999999: expected a whole number from 0 to 299", timeout=20 * SECONDS
    )
    assert page.get_attribute("[data-index][data-last]", "data-index") == page.input_value(".picker-number") == before
    page.evaluate(CHOOSE, 8)  # a complaint does not block the next choice


def test_who_waits_for_others_sees_how_many_there_are(page):
    held = []
    page.route("**/queue/join*", lambda route: held.append(route))
    page.route("**/queue/status", lambda route: route.fulfill(json={"msg": "estimation", "queue_size": 4}))
    choose(page, 33)
    page.wait_for_function("document.querySelector('.picker-queue').textContent == 'Waiting: at most 3 before you'")
    page.unroute("**/queue/join*")
    for route in held:
        route.continue_()
    page.wait_for_selector('.view[data-index="33"][data-last="true"]')
    assert page.inner_text(".picker-queue") == "" and page.errors == []


def test_the_camera_stays_where_it_was_put_when_values_change(whole):
    wait_for_brain(whole)
    camera = "document.querySelector('.brain-plot').layout.scene.camera.eye"
    whole.click(".brain-views [data-name=ventral]")
    whole.wait_for_function(f"{camera}.z < -1")
    before = whole.evaluate(camera)
    for name in ("r2", "ceiling", "ratio", "areas", "response"):
        whole.select_option(".brain-map", name)
    whole.evaluate(CHOOSE, 8)
    whole.wait_for_timeout(1 * SECONDS)
    assert whole.evaluate(camera) == before


def test_the_page_fits_a_laptop(whole):
    wait_for_brain(whole)
    settle(whole)
    bottom = "selector => document.querySelector(selector).getBoundingClientRect().bottom"
    assert max(whole.evaluate(bottom, panel) for panel in (".hero", ".brain")) < 768
    width = "Math.min(...Array.from(document.querySelectorAll('.pair img')).map(i => i.getBoundingClientRect().width || 999))"
    assert whole.evaluate(width) >= 300, "what was seen and what was drawn are small"
    assert whole.evaluate("document.documentElement.scrollWidth") <= 1366


def test_the_page_fits_a_phone(whole):
    whole.set_viewport_size({"width": 390, "height": 844})
    whole.wait_for_timeout(SECONDS / 2)
    assert whole.evaluate("document.documentElement.scrollWidth") <= 390
    whole.evaluate("document.querySelectorAll('.prompt input')[2].click()")
    settle(whole)
    assert whole.evaluate("document.documentElement.scrollWidth") <= 390
    width = "selector => document.querySelector(selector).getBoundingClientRect().width"
    assert (
        min(
            whole.evaluate(width, panel) for panel in (".picker", ".pair .lcm", ".controls", ".controls .own", ".brain")
        )
        > 300
    )


def test_a_browser_without_webgl_is_told_so(page):
    page.wait_for_selector("text=This browser offers no WebGL", timeout=20 * SECONDS)
    assert page.errors == []
