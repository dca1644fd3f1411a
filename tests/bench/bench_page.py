"""How fast the page answers, in Chromium on a page served by `python app.py`; medians, printed as JSON.

python tests/bench/bench_page.py --repeats 20

stage1_ms, preview_ms, final_ms   from choosing another picture to all of stage 1, the first and the last denoising step on screen
slider_ms                         from moving a slider of stage 2 to the first new frame
map_ms, voxel_ms                  to another value on the brain map; to the inspector of a voxel
answering_s, first_image_s        from `python app.py` to an answer; to the first picture, in a browser that asks at once
first_visit_ms, return_ms         from choosing another subject to its first picture: one not opened before, one that has been
parts_ms                          of final_ms: models (by the server's log), the rest of the server, network and browser
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from served import ROOT, free_port, open_browser, wait_for
from subjects import copy_as

# Runs `act` and says after how many ms each of the conditions held on a frame that was painted.
TIME = """([act, conditions]) => new Promise((resolve, reject) => {
    const tests = conditions.map(text => new Function("return " + text));
    const times = conditions.map(() => null);
    const start = performance.now();
    const look = () => {
        tests.forEach((test, k) => { if (times[k] === null && test()) times[k] = performance.now() - start; });
        if (times.every(t => t !== null)) requestAnimationFrame(() => resolve(times));
        else if (performance.now() - start > 20000) reject(new Error("not within 20 s: " + conditions));
        else requestAnimationFrame(look);
    };
    new Function(act)();
    requestAnimationFrame(look);
})"""
FINEST = 16  # side of the last latent layer that the demo's regressors predict
VIEW = "document.querySelector('.view').dataset"
SLIDE = "const s = document.querySelector('[aria-label=\"range slider for Guidance\"]'); s.value = {}; \
s.dispatchEvent(new Event('input', {{bubbles: true}}))"
SELECT = "const s = document.querySelector('.brain-map'); s.value = '{0}'; s.dispatchEvent(new Event('change'))"
CHOOSE = "[...document.querySelectorAll('.subject input')].find(i => i.value == '{0}').click()"
ARRIVED = "document.querySelector('.view')?.dataset.query.includes('subject={0}&')"
VOXEL = "const f = document.querySelector('.brain-voxel input'); f.value = {0}; f.dispatchEvent(new Event('change'))"


class App:
    """`python app.py`, its address and the reconstructions that its log tells of."""

    def __init__(self, bundle=ROOT / "assets" / "demo"):
        self.port, self.lines = free_port(), []
        env = os.environ | {"GRADIO_SERVER_PORT": str(self.port), "RECON_BUNDLE": str(bundle)}
        self.process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.append(json.loads(line))


def finished(page):
    page.wait_for_function(f"{VIEW}.last == 'true'", timeout=20000)
    page.wait_for_timeout(300)


def measure(page, act, conditions, rest=finished):
    times = page.evaluate(TIME, [act, conditions])
    rest(page)
    return times


def pictures(page, app, n):
    """(stage 1, first step, last step) in ms of n pictures not seen before, and where the time of the last step went."""
    rows, parts = [], []
    for index in range(20, 20 + n):
        here = f"{VIEW}.index == {index}"
        conditions = [
            f"{here} && ({VIEW}.layout == {FINEST} || {VIEW}.step >= 1)",
            f"{here} && {VIEW}.step >= 1",
            f"{here} && {VIEW}.last == 'true'",
        ]
        rows.append(measure(page, f"document.querySelector('.thumb[data-index=\"{index}\"]').click()", conditions))
        line = next(line for line in reversed(app.lines) if line["picture"] == index)
        models = 1000 * (line["vdvae_s"] + line["lcm_s"])
        parts.append((models, 1000 * line["total_s"] - models, rows[-1][2] - 1000 * line["total_s"]))
    return list(zip(*rows)), list(zip(*parts))


def sliders(page, n):
    times = []
    for k in range(n):
        serial = page.evaluate(f"Number({VIEW}.serial)")
        times += measure(page, SLIDE.format(1.1 + 0.1 * (k % 9)), [f"{VIEW}.serial > {serial} && {VIEW}.step >= 1"])
    return times


def maps(page, n):
    names = page.eval_on_selector_all(".brain-map option", "options => options.map(o => o.value)")
    shown = "document.querySelector('.brain').dataset.map == '{0}'"
    return [t for k in range(n) for t in measure(page, *with_name((SELECT, shown), names[(k + 1) % len(names)]))]


def voxels(page, n):
    there = "document.querySelector('.inspector')?.dataset.voxel == '{0}'"
    return [t for k in range(n) for t in measure(page, *with_name((VOXEL, there), 50 + 10 * k))]


def subjects(n):
    """(first visits, returns) in ms, of n subjects that differ in nothing but their names, and the first one's page is there."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        for k in range(n + 1):
            copy_as(ROOT / "assets" / "demo", Path(folder) / str(k), f"copy{k}")
        app = App(folder)
        try:
            wait_for(app.process, app.url, time.perf_counter() + 90)
            page = browser.new_page(viewport={"width": 1366, "height": 768})
            page.goto(app.url)
            settle(page)
            order = [*range(1, n + 1), *range(n)]
            times = [measure(page, *with_name((CHOOSE, ARRIVED), f"copy{k}"), settle) for k in order]
        finally:
            app.process.terminate()
            app.process.wait(20)
    times = [t for (t,) in times]
    return times[:n], times[n:]


def settle(page):
    page.wait_for_selector('.brain[data-ready="true"]', timeout=90000)
    page.wait_for_selector('[data-last="true"]', timeout=90000)
    page.wait_for_timeout(2000)


def with_name(templates, name):
    act, condition = (template.format(name) for template in templates)
    return act, [condition]


def median(values):
    return round(statistics.median(values)) if values else None


def run(repeats):
    start, app = time.perf_counter(), App()
    try:
        wait_for(app.process, app.url, start + 90)
        answering = time.perf_counter() - start
        with open_browser() as browser:
            page = browser.new_page(viewport={"width": 1366, "height": 768})
            page.goto(app.url)
            page.wait_for_selector(".card.mlp img", timeout=90000)
            first = time.perf_counter() - start
            settle(page)
            (stage1, preview, final), parts = pictures(page, app, repeats)
            result = {"stage1_ms": median(stage1), "preview_ms": median(preview), "final_ms": median(final)}
            result |= {"slider_ms": median(sliders(page, repeats)), "map_ms": median(maps(page, repeats))}
            inspector = page.locator(".brain-voxel input").count()
            result |= {"voxel_ms": median(voxels(page, repeats)) if inspector else None}
    finally:
        app.process.terminate()
        app.process.wait(20)
    first_visits, returns = subjects(5)
    result |= {"first_visit_ms": median(first_visits), "return_ms": median(returns)}
    names = ("models", "rest of the server", "network and browser")
    return result | {
        "answering_s": round(answering, 1),
        "first_image_s": round(first, 1),
        "parts_ms": {name: median(values) for name, values in zip(names, parts)},
        "repeats": repeats,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    print(json.dumps(run(parser.parse_args().repeats), indent=1))
