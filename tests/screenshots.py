"""Pictures of every tab for the README, from the real page: `python tests/screenshots.py`.

Writes assets/page/screenshots/TAB_SIZE.webp.
"""

import io
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from served import CHROMIUM, FLAGS, ROOT, open_tab, serve_apps

sys.path.insert(0, str(ROOT))
from recon.bundle.subject import load_subject

OUT = ROOT / "assets" / "page" / "screenshots"
SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
COLOURS = {"laptop": "light", "phone": "dark"}
SECONDS = 1000
DECODED = '.decoded-cards[data-saved="true"]:visible'


def drive(page) -> None:
    page.click(".preset input")
    page.locator('[role=option]:has-text("PPA")').click()


def bring(page) -> None:
    with tempfile.TemporaryDirectory() as folder:
        responses = Path(folder) / "responses.npy"
        np.save(responses, load_subject(ROOT / "assets" / "demo" / "subject.h5").test.averaged()[40:43])
        page.locator("input[type=file][accept*=npy]").set_input_files(responses)
        page.wait_for_selector(DECODED, timeout=120 * SECONDS)


TABS = {  # what is done on a tab before its picture is taken, and what is waited for
    "Explore": (lambda page: page.click('.thumb[data-index="17"]'), '.view[data-index="17"][data-last="true"]'),
    "Compare": (lambda page: page.click(".start-grid"), '.grid[data-last="true"]'),
    "Brain → image": (drive, DECODED),
    "Image → brain": (lambda page: page.click(".take-picture"), DECODED),
    "Your data": (bring, DECODED),
    "Evaluate": (lambda page: None, ".evaluate table"),
    "About": (lambda page: None, ".panel.about"),
}


def show(page, tab: str) -> None:
    act, ready = TABS[tab]
    open_tab(page, tab)
    page.wait_for_timeout(1000)
    act(page)
    page.wait_for_selector(ready, timeout=120 * SECONDS)
    page.wait_for_timeout(2500)
    page.evaluate("scrollTo(0, 0)")


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with serve_apps({}) as (url,), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for size, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=COLOURS[size])
            page.goto(url)
            page.wait_for_selector('.brain[data-ready="true"]', timeout=120 * SECONDS)
            for tab in TABS:
                show(page, tab)
                name = f"{re.sub('[^a-z]+', '-', tab.lower()).strip('-')}_{size}.webp"
                Image.open(io.BytesIO(page.screenshot())).save(OUT / name, quality=80, method=6)
                print(name, (OUT / name).stat().st_size)
            page.close()
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
