"""The page in a real browser, served by `python app.py`."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
SECONDS = 1000  # in milliseconds, the unit of Playwright's timeouts
PICKS = (5, 17, 41)

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium")

PIXELS = """source => {
    const image = document.querySelector(`.card.${source} img`);
    const canvas = Object.assign(document.createElement("canvas"), {width: 32, height: 32});
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, 32, 32);
    return Array.from(context.getImageData(0, 0, 32, 32).data);
}"""
CHOOSE = """index => new Promise((resolve, reject) => {
    const start = performance.now();
    const look = () => {
        const view = document.querySelector("[data-last]");
        if (view.dataset.index == index && view.dataset.last == "true") resolve(performance.now() - start);
        else if (performance.now() - start > 20000) reject(new Error(`picture ${index} did not appear in 20 s`));
        else requestAnimationFrame(look);
    };
    document.querySelector(`.thumb[data-index="${index}"]`).click();
    look();
})"""
BRAIN = "document.querySelector('.brain-plot').data.map(trace => trace.vertexcolor.join(';')).join('|')"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def address():
    """Starts the app and waits until it answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    start = time.perf_counter()
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=os.environ | {"GRADIO_SERVER_PORT": str(port)})
    try:
        while True:
            assert app.poll() is None, f"app.py ended with exit code {app.returncode}"
            assert time.perf_counter() - start < 90, "app.py does not answer after 90 s"
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        print(f"\nserver answers after {time.perf_counter() - start:.1f} s")
        yield url
    finally:
        app.terminate()
        app.wait(20)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """The open page after its first reconstruction; `page.errors` and `page.hosts` collect what should not be."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
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


def pixels(page):
    """source -> (32, 32, 4) pixels on screen."""
    page.wait_for_function("Array.from(document.querySelectorAll('.card img')).every(i => i.complete)")
    sources = ("original", "ridge", "mlp", "ceiling")
    return {s: np.array(page.evaluate(PIXELS, s), float).reshape(32, 32, 4) for s in sources}


def wait_for_brain(page):
    page.wait_for_selector('.brain[data-ready="true"]', timeout=60 * SECONDS)


def test_choosing_a_picture_changes_every_picture_and_the_brain(page, tmp_path):
    wait_for_brain(page)
    assert "variance explained" in page.inner_text(".brain-scale")
    page.click(".brain-maps [data-name=response]")
    seen, brains = [pixels(page)], [page.evaluate(BRAIN)]
    for index in PICKS:
        print(f"picture {index}: final stage-1 pictures {page.evaluate(CHOOSE, index):.0f} ms after the click")
        seen.append(pixels(page))
        page.wait_for_function(f"before => {BRAIN} !== before", arg=brains[-1], timeout=20 * SECONDS)
        brains.append(page.evaluate(BRAIN))
    for shown in seen:
        names = list(shown)
        for k, a in enumerate(names):
            assert shown[a].std() > 1
            for b in names[k + 1 :]:
                assert np.abs(shown[a] - shown[b]).max() > 2, f"{a} and {b} look the same"
    for before, after in zip(seen, seen[1:]):
        for name in before:
            assert np.abs(before[name] - after[name]).max() > 2, f"{name} did not change"
    page.click(".brain-maps [data-name=r2]")
    page.wait_for_timeout(1 * SECONDS)
    page.screenshot(path=os.environ.get("SCREENSHOT", tmp_path / "page.png"))
    assert page.errors == []
    assert page.hosts == set()


def test_fast_changes_end_at_the_last_choice(page):
    for _ in range(3):
        page.evaluate("[3, 9, 21].forEach(k => document.querySelectorAll('.thumb')[k].click())")
        page.wait_for_timeout(120)
    page.evaluate("[44, 60].forEach(k => document.querySelectorAll('.thumb')[k].click())")
    page.wait_for_selector('[data-index="60"][data-last="true"]', timeout=20 * SECONDS)
    page.wait_for_timeout(1 * SECONDS)
    assert page.get_attribute("[data-index][data-last]", "data-index") == "60"
    assert page.input_value(".picker-number") == "60"


def test_a_picture_that_does_not_exist_is_refused_in_words(page):
    page.fill(".picker-number", "999999")
    page.press(".picker-number", "Enter")
    page.wait_for_selector("text=test image 999999 does not exist", timeout=20 * SECONDS)
    assert page.get_attribute("[data-index][data-last]", "data-index") == "0"
    page.evaluate(CHOOSE, 8)  # a complaint does not block the next choice


def test_the_camera_stays_where_it_was_put_when_values_change(page):
    wait_for_brain(page)
    camera = "document.querySelector('.brain-plot').layout.scene.camera.eye"
    page.click(".brain-views [data-name=ventral]")
    page.wait_for_function(f"{camera}.z < -1")
    before = page.evaluate(camera)
    for name in ("r2", "ceiling", "ratio", "areas", "response"):
        page.click(f".brain-maps [data-name={name}]")
    page.evaluate(CHOOSE, 8)
    page.wait_for_timeout(1 * SECONDS)
    assert page.evaluate(camera) == before


def test_the_page_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(SECONDS / 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    width = "selector => document.querySelector(selector).getBoundingClientRect().width"
    assert min(page.evaluate(width, panel) for panel in (".picker", ".cards", ".brain")) > 300


def test_a_browser_without_webgl_is_told_so(browser, address):
    page = browser.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(address)
    page.wait_for_selector("text=This browser offers no WebGL", timeout=60 * SECONDS)
    page.wait_for_selector('[data-last="true"]', timeout=60 * SECONDS)
    page.close()
