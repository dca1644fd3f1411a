"""The page's head: a link's preview is the product's, and the prefix of a proxy goes in front of its files."""

import re
from html import unescape
from pathlib import Path

import gradio
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from recon.ui.server.page_head import PREVIEW, PREVIEW_PATH, PageHead, link_preview

TEMPLATE = (Path(gradio.__file__).parent / "templates" / "frontend" / "index.html").read_text(encoding="utf-8")
TITLE = 'Brain → "Image"'


def page(root: str = "") -> TestClient:
    async def show(_):
        return HTMLResponse(TEMPLATE.replace("{{ base_url | default('./') }}", "./"))

    routes = [Route("/", show), Route(PREVIEW_PATH, link_preview)]
    middleware = [Middleware(PageHead, root=root, title=TITLE)]
    return TestClient(Starlette(routes=routes, middleware=middleware), base_url="http://127.0.0.1:7860")


def tags(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for tag in re.findall(r"<meta[^>]*>", text):
        name, content = re.search(r'(?:property|name)="([^"]*)"', tag), re.search(r'content="([^"]*)"', tag)
        if name and content:
            found.setdefault(name[1], []).append(unescape(content[1]))
    return found


def test_a_links_preview_has_the_products_title_sentence_and_picture_and_nothing_of_gradios():
    answer = page().get("/")
    assert int(answer.headers["content-length"]) == len(answer.content)
    told = tags(answer.text)
    assert told["og:title"] == [TITLE] and told["og:url"] == ["http://127.0.0.1:7860/"]
    assert told["og:image"] == ["http://127.0.0.1:7860/link_preview.jpg"]
    assert "brain activity" in told["og:description"][0] and told["og:description"] == told["description"]
    assert (
        "Click to try out" not in answer.text and "header-image.jpg" not in answer.text and "{url}" not in answer.text
    )


def test_the_previews_picture_is_served_at_the_size_that_link_previews_have():
    answer = page().get(PREVIEW_PATH)
    assert answer.headers["content-type"] == "image/jpeg" and len(answer.content) < 200_000
    assert Image.open(PREVIEW).size == (1200, 630)


@pytest.mark.parametrize(
    "root, header, address",
    [
        ("/brain", {}, "http://127.0.0.1:7860/brain"),
        ("https://lab.example.org/brain", {}, "https://lab.example.org/brain"),
        ("", {"x-forwarded-proto": "https,http", "host": "user-space.hf.space"}, "https://user-space.hf.space"),
        ("", {"host": 'a"><script>'}, 'http://a"><script>'),  # escaped: it is a value, not a tag
    ],
)
def test_the_preview_names_the_address_that_visitors_have(root, header, address):
    text = page(root).get("/", headers=header).text
    assert tags(text)["og:image"] == [f"{address}/link_preview.jpg"]
    assert "<script>/" not in text


def test_a_prefix_goes_in_front_of_the_pages_files():
    assert '<base href="/brain/" />' in page("/brain").get("/").text
    assert '<base href="./" />' in page().get("/").text
