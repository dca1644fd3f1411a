"""A page behind a proxy that gives it a prefix, as in `https://lab.example.org/brain`."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recon.ui.html.markup import html

BASE = b'<base href="./" />'  # what gradio writes: right only where the address ends with a slash


class Prefix:
    """ASGI middleware: the page says under which prefix its files lie, whether its address ends with a slash or not."""

    def __init__(self, app: ASGIApp, root: str):
        self.app, self.path = app, urlsplit(root).path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["path"].rstrip("/") in ("", self.path)
        if not self.path or not page or scope["method"] != "GET":
            return await self.app(scope, receive, send)
        start: list[Message] = []
        body = bytearray()

        async def send_with_base(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                content = bytes(body).replace(BASE, html('<base href="{}/" />', self.path).encode(), 1)
                headers = MutableHeaders(scope=start[0])
                if "content-length" in headers:
                    headers["content-length"] = str(len(content))
                await send(start[0])
                await send({"type": "http.response.body", "body": content})

        await self.app(scope, receive, send_with_base)
