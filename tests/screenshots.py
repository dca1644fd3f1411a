"""Pictures of every tab for the README, from the real page: `python tests/screenshots.py`.

Writes assets/page/screenshots/TAB_SIZE.webp, and the picture of a link's preview, assets/page/link_preview.jpg.
"""

import io
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from page_actions import SECONDS
from PIL import Image
from served import ROOT, open_browser, open_tab, serve_apps

sys.path.insert(0, str(ROOT))
from recon.bundle.subject import load_subject

OUT = ROOT / "assets" / "page" / "screenshots"
SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
COLOURS = {"laptop": "light", "phone": "dark"}
CARD = """<body style="margin:0;width:1200px;height:630px;box-sizing:border-box;padding:44px 56px;background:#10131a;color:#f2f4f8;
font-family:system-ui,sans-serif"><h1 style="margin:0 0 6px;font-size:52px">Brain <span style="color:#f5a04e">→</span> Image</h1>
<p style="margin:0 0 26px;font-size:27px;color:#c3cad6">
A picture drawn again from the brain activity of someone who looked at it</p>
<div style="display:flex;gap:26px">PICTURES</div>
<p style="margin:14px 0 0;font-size:20px;color:#98a2b3">Images of the simulated subject that comes with it</p>"""
FIGURE = """<figure style="margin:0"><img src="{}" style="width:344px;height:344px;border-radius:14px">
<figcaption style="margin-top:8px;font-size:23px">{}</figcaption></figure>"""
PREVIEWED = {
    "What was seen": ".hero .original img",
    "Rough layout": ".way .chosen img",
    "Drawn from the brain": ".hero .lcm img",
}
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


def preview(browser, url: str) -> None:
    """A simulated subject's images with the product's name: what a link to any page of it shows."""
    page = browser.new_page(viewport={"width": 1200, "height": 630})
    page.goto(url)
    page.wait_for_selector('.view[data-last="true"]', timeout=120 * SECONDS)
    pictures = {name: page.get_attribute(f"{where} >> nth=0", "src") for name, where in PREVIEWED.items()}
    page.set_content(CARD.replace("PICTURES", "".join(FIGURE.format(src, name) for name, src in pictures.items())))
    page.wait_for_timeout(SECONDS)
    page.screenshot(path=OUT.parent / "link_preview.jpg", type="jpeg", quality=88)
    page.close()


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with open_browser() as browser, serve_apps({}) as (url,):
        preview(browser, url)
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


if __name__ == "__main__":
    sys.exit(main())
