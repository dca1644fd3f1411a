"""A bundle whose every free text is HTML: the page shows it as text, on every tab, and runs none of it."""

import json

import h5py
import numpy as np
import pytest
from conftest import write_tiny_bundle
from page_actions import SECONDS
from served import open_browser, open_tab, serve_apps
from stand_in_evaluation import made_up_evaluation

from recon.bundle.captions import CaptionIndex
from recon.bundle.evaluation import save_evaluation
from recon.bundle.manifest import rewrite_manifest
from recon.bundle.subject import load_subject

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=ran=1>${ran=2}{{ran}}"  # as HTML, and as the page's templates would run it
TABS = ("Compare", "Brain → image", "Image → brain", "Your data", "Evaluate", "About", "Explore")
RAN = "() => [typeof window.ran, document.querySelectorAll('img[src=x], img:not([src])').length]"


def hostile_evaluation(images: np.ndarray):
    """A made-up one with text of its own wherever there is room for any."""
    evaluation = made_up_evaluation(images)
    for mapping in (evaluation.settings, evaluation.versions, evaluation.machine, evaluation.tables["captions"]["mlp"]):
        values = dict(mapping)
        mapping.clear()
        mapping.update({HOSTILE + name: 0.5 if isinstance(value, float) else HOSTILE for name, value in values.items()})
    for shares in evaluation.tables["captions"].values():
        shares.clear()
        shares[HOSTILE] = 0.5
    evaluation.settings.update(steps=4, guidance=1.0, strength=0.8, shuffles=HOSTILE)
    evaluation.protocol["name"] = HOSTILE
    evaluation.machine["device"] = HOSTILE
    evaluation.notes.append(HOSTILE)
    evaluation.not_computed.update(dict.fromkeys(evaluation.not_computed, HOSTILE))
    for item in (*evaluation.rows, *evaluation.rois, *evaluation.galleries):
        for name in {"note", "roi", "rule"} & vars(item).keys():
            object.__setattr__(item, name, HOSTILE)
    return evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_tiny_bundle(tmp_path_factory.mktemp("hostile") / "bundle")
    with h5py.File(folder / "subject.h5", "r+") as f:
        f["geometry/rois"].move("V1", HOSTILE)
        labels = [{"captions": [HOSTILE], "setting": HOSTILE, "object": f"{HOSTILE}{k % 2}"} for k in range(5)]
        del f["test/labels"]
        f["test/labels"] = json.dumps(labels)
    index = CaptionIndex.load(folder / "captions.h5")
    CaptionIndex([HOSTILE] * 4, index.embeddings).save(folder / "captions.h5")
    save_evaluation(folder, hostile_evaluation(load_subject(folder / "subject.h5").test.images))
    rewrite_manifest(folder)
    return folder


def test_no_text_of_a_bundle_or_a_link_runs_on_any_tab(folder):
    link = "?picture=1&prompt=own&own_prompt=" + HOSTILE.replace("=", "%3D").replace("{", "%7B").replace("}", "%7D")
    with open_browser() as browser, serve_apps({"RECON_BUNDLE": str(folder)}) as (url,):
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url + link)
        page.wait_for_selector('.view[data-last="true"]', timeout=90 * SECONDS)
        page.click(f'.brain-legend [data-name="{HOSTILE}"]')
        page.wait_for_selector(f'.set-gain[data-roi="{HOSTILE}"]')
        for tab in TABS:
            open_tab(page, tab)
            if tab == "Evaluate":
                page.wait_for_selector(".side-tables", timeout=30 * SECONDS)
            page.wait_for_timeout(SECONDS)
            assert page.evaluate(RAN) == ["undefined", 0], tab
        page.goto(url + f"?regressor={HOSTILE}")
        page.wait_for_selector(".toast-body", timeout=30 * SECONDS)
        assert page.evaluate(RAN) == ["undefined", 0]
        shown = page.content().count("&lt;img src=x")
    assert shown > 5 and not [address for address in asked if address.endswith("/x")]
