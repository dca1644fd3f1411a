"""What may come in at all: from whom, to which routes, of which size."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recon.environment import HOSTS, LOOPBACK, own_names

MAX_BODY, MAX_UPLOAD_BODY = 1 << 20, 65 << 20  # bytes; a wish is a few hundred
UPLOAD = re.compile(r"/upload/?$")
CLOSED = re.compile(  # routes of gradio that this page does not use
    r"/(process_recording|vibe-|undo-vibe|run-history|runs/?$|dev/|proxy=|file=https?:|profiling|deep_link|custom_component|mcp(/|$)|stream/)",
    re.IGNORECASE,
)


def name_of(address: str) -> str:
    """The host in a Host or Origin header, in small letters, without scheme and port; "" if there is none."""
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def is_number(name: str) -> bool:
    """Whether a host is an IP address: such a one was typed, no name server can have rebound it."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class Gate:
    """ASGI middleware: refuses what no visitor of the page asks for, before it is read.

    An Origin must be the page's own, so that no other site's script drives it, whatever type of content it sends. The Host must be
    an address, this machine's or one of the page's own names, so that a name that is rebound to this machine does not reach it.
    """

    def __init__(self, app: ASGIApp):
        self.app, self.names = app, own_names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        refusal = self.refusal(scope)
        if refusal is not None:
            return await refusal(scope, receive, send)
        try:
            await self.app(scope, bounded(receive, most(scope)), send)
        except BodyTooLarge:
            await too_large()(scope, receive, send)

    def refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not (name_of(host) in self.names or name_of(host) in LOOPBACK or is_number(name_of(host))):
            return PlainTextResponse(f"This page does not know itself by this name: add it to {HOSTS}.", 403)
        if "origin" in headers and not self.is_own(headers["origin"], [host, headers.get("x-forwarded-host", "")]):
            return PlainTextResponse(f"Other sites may not use this page; add its own name to {HOSTS}.", 403)
        if CLOSED.search(scope["path"]):
            return PlainTextResponse("Not found.", 404)
        length = headers.get("content-length", "0")
        return None if length.isdecimal() and int(length) <= most(scope) else too_large()

    def is_own(self, origin: str, hosts: list[str]) -> bool:
        """Whether an Origin is the page's: with the port, where the host that was asked has one; some proxies drop it."""
        if name_of(origin) in self.names:
            return True
        with_port = origin.partition("://")[2].lower()
        return any(host and host.lower() in (with_port, name_of(origin)) for host in hosts)


def too_large() -> PlainTextResponse:
    return PlainTextResponse("The request is larger than this page takes.", 413)


class BodyTooLarge(Exception):
    """More came than was announced, or was announced not at all."""


def most(scope: Scope) -> int:
    """Bytes that a request's body may have."""
    return MAX_UPLOAD_BODY if UPLOAD.search(scope["path"]) else MAX_BODY


def bounded(receive: Receive, most_bytes: int) -> Receive:
    """`receive` that raises BodyTooLarge once a body is larger."""
    left = most_bytes

    async def receive_within() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise BodyTooLarge
        return message

    return receive_within
