"""The page starts on computers as they are: behind proxies and prefixes, with others' folders; or says why not, in one sentence."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import write_tiny_bundle
from served import free_port, open_browser, wait_for

ROOT = Path(__file__).parents[3]
PREFIX = "/lab/brain"


def refused(**variables: str) -> str:
    """What `python app.py` says when it refuses to start."""
    run = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1 and run.stderr.count("\n") == 1, run.stderr
    return run.stderr


@pytest.mark.parametrize("variables, words", [
    ({"GRADIO_SERVER_PORT": "99999"}, "GRADIO_SERVER_PORT: expected a whole number from 1 to 65535, got '99999'"),
    ({"GRADIO_TEMP_DIR": "/proc/mine"}, "GRADIO_TEMP_DIR: expected a folder to write to"),
])  # fmt: skip
def test_a_bad_variable_ends_the_start_before_gradio_is_imported(variables, words):
    assert words in refused(**variables)


@pytest.mark.slow
def test_a_file_in_place_of_a_bundle_and_a_taken_port_are_told_and_leave_nothing(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "tmp").mkdir()
    place = {"GRADIO_TEMP_DIR": str(tmp_path / "tmp")}
    told = refused(RECON_BUNDLE=str(bundle / "manifest.json"), **place)
    assert f"RECON_BUNDLE: expected a folder, got the file {bundle / 'manifest.json'}: name {bundle}" in told
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = str(s.getsockname()[1])
        assert f"port {port} at 127.0.0.1 is taken" in refused(
            GRADIO_SERVER_PORT=port, RECON_BUNDLE=str(bundle), **place
        )
    assert not list((tmp_path / "tmp").iterdir())


class Stripping(BaseHTTPRequestHandler):
    """A proxy as in front of a lab's pages: what comes under the prefix goes to the page without it; nothing else is served."""

    protocol_version, page = "HTTP/1.1", 0

    def forward(self) -> None:
        rest = self.path.removeprefix(PREFIX)
        if not self.path.startswith(PREFIX):
            return self.send_error(404)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        there = http.client.HTTPConnection("127.0.0.1", self.page, timeout=60)
        there.request(self.command, rest if rest.startswith("/") else f"/{rest}", body, dict(self.headers))
        answer = there.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while chunk := answer.read1(1 << 16):
            self.wfile.write(chunk)
            self.wfile.flush()
        self.close_connection = True

    do_GET = do_POST = do_HEAD = forward

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """(address behind the prefix, process, private folders' parent) of a page where everything is against it: dead proxies, a
    temporary folder that another user owns, a home that cannot be written to, and odd letters in the installation's path."""
    folder = tmp_path_factory.mktemp("hostile")
    bundle = write_tiny_bundle(folder / "bundle")
    temporary, home, odd = folder / "tmp", folder / "home", folder / "a#b?c%20d"
    for place in (temporary, home, odd / "plotly" / "package_data"):
        place.mkdir(parents=True)
    (temporary / "gradio").mkdir(mode=0o700)
    (temporary / "gradio" / "theirs").write_text("of another user")
    if os.geteuid() == 0:
        os.chown(temporary / "gradio", 65533, 65533)
    home.chmod(0o555)
    import plotly

    real = Path(plotly.__file__).parent
    (odd / "plotly" / "__init__.py").write_text("")
    (odd / "plotly" / "package_data" / "plotly.min.js").write_bytes(
        (real / "package_data" / "plotly.min.js").read_bytes()
    )
    port, front = free_port(), free_port()
    dead = {
        name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
    }
    env = os.environ | dead | {
        "TMPDIR": str(temporary), "HOME": str(home), "PYTHONPATH": str(odd), "RECON_BUNDLE": str(bundle), "WORLD_SIZE": "4",
        "GRADIO_SERVER_PORT": str(port), "GRADIO_ROOT_PATH": PREFIX, "NO_PROXY": "", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env)
    Stripping.page = port
    proxy = ThreadingHTTPServer(("127.0.0.1", front), Stripping)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        wait_for(process, f"http://127.0.0.1:{front}{PREFIX}/healthz", time.perf_counter() + 120)
        yield f"http://127.0.0.1:{front}{PREFIX}", process, temporary
    finally:
        process.kill()
        process.wait()
        proxy.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_page_is_drawn_with_its_brain_where_everything_is_against_it(hostile, slash):
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        failed = []
        page.on("response", lambda answer: failed.append((answer.status, answer.url)) if answer.status >= 400 else None)
        page.goto(hostile[0] + slash)
        page.wait_for_selector('.brain[data-ready="true"]', timeout=120_000)
        assert page.evaluate(
            "Boolean(window.Plotly && document.querySelector('.brain-plot .main-svg, .brain-plot canvas'))"
        )
        page.screenshot(path=os.environ.get("SCREENSHOT_PREFIX", str(hostile[2] / "page.png")))
    assert not [one for one in failed if "manifest.json" not in one[1]], failed


@pytest.mark.slow
def test_visitors_files_lie_in_a_private_folder_that_goes_at_the_end(hostile):
    address, process, temporary = hostile
    (own,) = temporary.glob("recon-uploads-*")
    assert own.stat().st_mode & 0o777 == 0o700
    boundary = "b0undary"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.npy"\r\n\r\nx\r\n--{boundary}--\r\n'
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{address}/gradio_api/upload", body.encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        assert answer.status == 200
    assert [path for path in own.rglob("*.npy")] and (temporary / "gradio" / "theirs").exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0 and not own.exists()
