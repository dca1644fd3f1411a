"""Pictures of every tab for the README, from the real page: `python tests/screenshots.py`.

Writes assets/page/screenshots/TAB_SIZE.webp.
"""

import io
import re
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from served import CHROMIUM, FLAGS, ROOT, open_tab, serve_apps

OUT = ROOT / "assets" / "page" / "screenshots"
SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
SECONDS = 1000
WAITS = {  # what is done on a tab before its picture is taken, and what is waited for
    "Explore": (None, '.brain[data-ready="true"]'),
    "Compare": (".start-grid", '.grid[data-last="true"]'),
    "Brain → image": ('label:has-text("PPA"):visible', '.decoded-cards[data-saved="true"]:visible'),
    "Image → brain": ("upload", '.decoded-cards[data-saved="true"]:visible'),
    "Your data": (None, None),
    "Evaluate": (None, ".galleries, .gallery, table"),
    "About": (None, ".about"),
}


def show(page, tab: str, picture: Path) -> None:
    action, ready = WAITS[tab]
    open_tab(page, tab)
    page.wait_for_timeout(700)
    if action == "upload":
        page.locator("input[type=file]:not([accept*=npy])").first.set_input_files(picture)
    elif action:
        page.locator(action).first.click()
    if ready:
        page.wait_for_selector(ready, timeout=120 * SECONDS)
    page.wait_for_timeout(1500)
    page.evaluate("scrollTo(0, 0)")


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    picture = ROOT / "assets" / "demo" / "samples.jpg"
    with serve_apps({}) as (url,), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for size, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
            page.goto(url)
            page.wait_for_selector('.view[data-last="true"]', timeout=120 * SECONDS)
            for tab in WAITS:
                show(page, tab, picture)
                name = f"{re.sub('[^a-z]+', '-', tab.lower()).strip('-')}_{size}.webp"
                Image.open(io.BytesIO(page.screenshot())).save(OUT / name, quality=80, method=6)
                print(name, (OUT / name).stat().st_size)
            page.close()
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
