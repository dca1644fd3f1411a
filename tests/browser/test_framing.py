"""Pages of Hugging Face may frame this one, as Spaces do; nobody else's."""

import pytest
from conftest import write_tiny_bundle
from page_actions import SECONDS
from served import open_browser, serve_apps

pytestmark = pytest.mark.slow

FRAMING = '<!doctype html><title>Framing</title><iframe src="{}" style="width:1300px;height:700px"></iframe>'


def frame_in(browser, outside: str, url: str):
    """The frame that holds the page, in a page of `outside` that the test answers for."""
    page = browser.new_page()
    page.route(f"{outside}/**", lambda route: route.fulfill(body=FRAMING.format(url), content_type="text/html"))
    page.goto(f"{outside}/spaces/someone/brain")
    page.wait_for_timeout(2 * SECONDS)
    return page.frames[1]


def test_spaces_frame_the_page_and_other_sites_do_not(tmp_path_factory):
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("framed") / "bundle")
    local = "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"
    with open_browser(local) as browser, serve_apps({"RECON_BUNDLE": str(bundle)}) as (url,):
        for outside in ("https://huggingface.co", "https://someone-brain.hf.space"):
            frame = frame_in(browser, outside, url)
            frame.wait_for_selector('.view[data-last="true"]', timeout=60 * SECONDS)  # it works inside, too
        for outside in ("https://example.org", "https://huggingface.co.example.org", "https://hf.space.evil.net"):
            frame = frame_in(browser, outside, url)
            assert frame.url.startswith("chrome-error://"), outside
