"""Who may ask for what: other sites, rebound names, unused routes and large bodies are refused before anything is read."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from recon.environment import HOSTS
from recon.ui.server.gate import MAX_BODY, MAX_UPLOAD_BODY, Gate
from recon.ui.server.headers import HEADERS, SecurityHeaders

JOIN = "/gradio_api/queue/join"


async def echo(request: Request) -> PlainTextResponse:
    if request.url.path == "/broken":
        raise RuntimeError("unforeseen")
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setenv(HOSTS, "lab.example.org, Other.example.org")
    monkeypatch.setenv("SPACE_HOST", "me-page.hf.space")
    route = Route("/{path:path}", echo, methods=["GET", "POST", "OPTIONS"])
    app = Starlette(routes=[route], middleware=[Middleware(SecurityHeaders), Middleware(Gate)])
    return TestClient(app, raise_server_exceptions=False)


OWN = [
    ("127.0.0.1:7860", None),
    ("127.0.0.1:7860", "http://127.0.0.1:7860"),
    ("localhost:7860", "http://localhost:7860"),
    ("[::1]:7860", "http://[::1]:7860"),
    ("192.168.1.7:7860", "http://192.168.1.7:7860"),
    ("10.0.0.9:7860", None),
    ("me-page.hf.space", "https://me-page.hf.space"),
    ("10.0.0.9:7860", "https://me-page.hf.space"),
    ("lab.example.org", "https://lab.example.org"),
    ("lab.example.org", "https://lab.example.org:8443"),
    ("127.0.0.1:7860", "https://other.example.org"),
]


@pytest.mark.parametrize("host, origin", OWN)
def test_the_page_itself_a_space_and_a_proxy_may(client, host, origin):
    headers = {"host": host} | ({"origin": origin} if origin else {})
    assert client.post(JOIN, json={}, headers=headers).status_code == 200


def test_a_proxy_that_says_by_which_name_it_was_asked_may(client):
    headers = {"host": "127.0.0.1:7860", "x-forwarded-host": "new.example.org", "origin": "https://new.example.org"}
    assert client.post(JOIN, json={}, headers=headers).status_code == 200


FOREIGN = [
    ("127.0.0.1:7860", "https://evil.example.com"),
    ("127.0.0.1:7860", "http://127.0.0.1:3000"),
    ("127.0.0.1:7860", "http://localhost:7860"),
    ("127.0.0.1:7860", "null"),
    ("127.0.0.1:7860", ""),
    ("127.0.0.1:7860", "http://127.0.0.1:7860.evil.example.com"),
    ("127.0.0.1:7860", "http://["),
    ("me-page.hf.space", "https://other-page.hf.space"),
    ("lab.example.org", "https://lab.example.org.evil.com"),
    ("evil.example.com:7860", None),
    ("evil.example.com:7860", "http://evil.example.com:7860"),
    ("127.0.0.1.nip.io:7860", None),
    ("", None),
]


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/json"])
@pytest.mark.parametrize("host, origin", FOREIGN)
def test_other_sites_and_rebound_names_may_not(client, host, origin, kind):
    headers = {"host": host, "content-type": kind} | ({} if origin is None else {"origin": origin})
    for path in (JOIN, "/gradio_api/component_server", "/gradio_api/upload"):
        answer = client.post(path, content=b"{}", headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_a_foreign_preflight_is_not_answered(client):
    headers = {"host": "127.0.0.1:7860", "origin": "https://evil.example.com", "access-control-request-method": "POST"}
    answer = client.options(JOIN, headers=headers)
    assert answer.status_code == 403 and not [h for h in answer.headers if h.startswith("access-control")]


UNUSED = (
    "process_recording", "vibe-edit", "vibe-edit/", "undo-vibe-edit/", "vibe-code", "vibe-starter-queries", "run-history/buckets",
    "run-history/records/a/b/assets/c", "runs", "runs/", "dev/reload", "proxy=http://127.0.0.1/", "file=http://127.0.0.1/healthz",
    "file=HTTPS://example.org", "profiling/traces", "deep_link", "custom_component/a/b/c/d.js",
    "mcp/sse", "stream/a/b/c/playlist.m3u8",
)  # fmt: skip


@pytest.mark.parametrize("path", UNUSED)
def test_routes_that_the_page_does_not_use_are_closed(client, path):
    for prefix in ("/gradio_api/", "/"):
        for ask in (client.get, client.post):
            assert ask(prefix + path, headers={"host": "127.0.0.1"}).status_code == 404


@pytest.mark.parametrize(
    "path", ["", "config", "healthz", "gradio_api/info", "gradio_api/file=/a/plotly.min.js", "theme.css"]
)
def test_routes_that_the_page_uses_are_open(client, path):
    assert client.get("/" + path, headers={"host": "127.0.0.1"}).status_code == 200


@pytest.mark.parametrize(
    "path, most", [(JOIN, MAX_BODY), ("/gradio_api/upload", MAX_UPLOAD_BODY), ("/gradio_api/upload/", MAX_UPLOAD_BODY)]
)
def test_bodies_are_bounded_whether_their_length_is_told_or_not(client, path, most):
    def ask(content):
        return client.post(path, content=content, headers={"host": "127.0.0.1"}).status_code

    assert ask(bytes(most)) == 200
    assert ask(bytes(most + 1)) == 413
    assert ask(iter([bytes(most), b"x"])) == 413
    assert client.post(path, content=b"", headers={"host": "127.0.0.1", "content-length": "-1"}).status_code == 413


def test_refusals_and_unforeseen_errors_carry_the_security_headers(client):
    for headers, path, status in (({"host": "evil.com"}, "/", 403), ({"host": "127.0.0.1"}, "/broken", 500)):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status
        assert all(answer.headers[name] == value for name, value in HEADERS.items())
