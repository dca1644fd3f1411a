"""What the page's head says that gradio's template cannot: under which prefix it lies, and what a link to it looks like."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recon.ui.html.markup import html, joined

BASE = b'<base href="./" />'  # what gradio writes: right only where the address ends with a slash
PREVIEW = Path(__file__).parents[3] / "assets" / "page" / "link_preview.jpg"
PREVIEW_PATH = "/link_preview.jpg"
PREVIEW_TAG = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>\s*')
DESCRIPTION = "A computer draws the picture that a person was looking at, from their brain activity (fMRI) alone. Live."


async def link_preview(request: Request) -> FileResponse:
    """The picture of a link's preview."""
    return FileResponse(PREVIEW, headers={"Cache-Control": "public, max-age=86400"})


def preview_tags(title: str, address: str) -> bytes:
    """Open Graph's and Twitter's tags of a page at `address`, which ends without a slash."""
    picture = address + PREVIEW_PATH
    said = {"title": title, "description": DESCRIPTION, "type": "website", "url": f"{address}/", "image": picture}
    graph = [html('<meta property="og:{}" content="{}" />', name, value) for name, value in said.items()]
    card = html('<meta name="twitter:card" content="summary_large_image" />')
    description = html('<meta name="description" content="{}" />', DESCRIPTION)
    return joined([*graph, card, description]).encode()


class PageHead:
    """ASGI middleware: rewrites the head of the page itself, whether its address ends with a slash or not.

    `root`: a prefix, or the page's whole address, as a proxy gives it; "" without one.
    """

    def __init__(self, app: ASGIApp, root: str, title: str):
        self.app, self.root, self.title = app, root.rstrip("/"), title
        self.path = urlsplit(self.root).path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["path"].rstrip("/") in ("", self.path)
        if not page or scope["method"] != "GET":
            return await self.app(scope, receive, send)
        start: list[Message] = []
        body = bytearray()

        async def send_with_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                content = self._rewritten(bytes(body), self._address(Request(scope)))
                headers = MutableHeaders(scope=start[0])
                if "content-length" in headers:
                    headers["content-length"] = str(len(content))
                await send(start[0])
                await send({"type": "http.response.body", "body": content})

        await self.app(scope, receive, send_with_head)

    def _address(self, request: Request) -> str:
        """The page's own, as visitors have it."""
        if urlsplit(self.root).netloc:
            return self.root
        scheme = request.headers.get("x-forwarded-proto", request.url.scheme).split(",")[0].strip()
        return f"{scheme}://{request.headers.get('host', '')}{self.path}"

    def _rewritten(self, page: bytes, address: str) -> bytes:
        page = PREVIEW_TAG.sub(b"", page)
        page = page.replace(b"<head>", b"<head>" + preview_tags(self.title, address), 1)
        return page.replace(BASE, html('<base href="{}/" />', self.path).encode(), 1) if self.path else page
