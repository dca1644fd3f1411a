"""The server around the page: what it tells, what it serves, what it refuses, how it ends. On a tiny bundle."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import write_tiny_bundle
from gradio_client import Client
from PIL import Image
from served import free_port, wait_for

from recon.files import file_digest

ROOT = Path(__file__).parents[3]
ENDS_WITHIN = 5  # seconds after a signal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def bundle(folder):
    return write_tiny_bundle(folder / "bundle")


@contextmanager
def endless(folder: Path, bundle: Path) -> Iterator[tuple]:
    """(address, process, log) of a page that can reconstruct without end; the log holds stderr as well."""
    port = free_port()
    env = os.environ | {"GRADIO_TEMP_DIR": str(folder / "cache"), "GRADIO_SERVER_PORT": str(port)}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "tests/served_endless.py"],
            cwd=ROOT,
            env=env | {"RECON_BUNDLE": str(bundle)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(process, f"http://127.0.0.1:{port}/healthz", time.perf_counter() + 90)
        yield f"http://127.0.0.1:{port}/", process, folder / "log"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(folder, bundle):
    with endless(folder, bundle) as found:
        yield found


def ask(url: str) -> tuple[int, dict, bytes]:
    """Status, headers and content, without urllib tidying the path up."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_health_tells_versions_device_and_which_bundle(server, bundle):
    status, _, content = ask(server[0] + "healthz")
    health = json.loads(content)
    assert status == 200 and health["ready"] and health["error"] is None
    assert health["versions"]["gradio"] == version("gradio")
    assert health["device"].startswith("CPU, float32, ") or "float" in health["device"]
    assert health["bundle"] == {"name": "tiny", "digest": file_digest(bundle / "manifest.json"), "revision": None}


@pytest.mark.parametrize("path", ["", "healthz", "config", "gradio_api/info", "nowhere"])
def test_every_answer_carries_the_security_headers(server, path):
    _, headers, _ = ask(server[0] + path)
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["frame-ancestors"].split() == ["'self'", "https://huggingface.co", "https://*.hf.space"]
    assert policy["object-src"] == "'none'"
    assert headers["Referrer-Policy"] and "camera=()" in headers["Permissions-Policy"]


def committed(*folders: str) -> list[str]:
    return [str(p.relative_to(ROOT)) for f in folders for p in sorted((ROOT / f).rglob("*")) if p.is_file()]


FORMS = ("gradio_api/file={}", "file={}", "gradio_api/file/{}", "static/{}", "assets/{}", "svelte/{}", "{}")


@pytest.mark.parametrize("form", FORMS)
def test_no_file_of_the_repository_is_served(server, form, bundle):
    names = committed("assets") + ["app.py", "README.md", ".git/config", "recon/bundle/bundle.py"]
    paths = [*names, *(str(ROOT / name) for name in names), str(bundle / "subject.h5")]
    for path in paths:
        status, _, _ = ask(server[0] + form.format(path))
        assert status in (403, 404), f"{form.format(path)}: {status}"


TRAVERSALS = (
    "../../../../../../etc/passwd", "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "....//....//....//etc/passwd", "/etc/passwd", "%2fetc%2fpasswd", "..%5c..%5cetc%5cpasswd", "%252e%252e/%252e%252e/etc/passwd",
    "/proc/self/environ", "./../../../../../../proc/self/environ", "%00/etc/passwd",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_no_path_leads_out(server, form):
    for path in TRAVERSALS:
        status, _, content = ask(server[0] + form.format(path))
        assert status in (400, 403, 404) and b"root:" not in content, f"{form.format(path)}: {status}"


def test_nothing_is_fetched_from_this_computer_on_a_visitors_behalf(server):
    status, _, content = ask(f"{server[0]}gradio_api/file={server[0]}healthz")
    assert status >= 400 and b"versions" not in content


def test_traffic_is_not_shown_to_visitors_and_uploads_are_bounded(server):
    status, _, content = ask(server[0] + "monitoring")
    assert status == 403
    _, _, content = ask(server[0] + "config")
    assert json.loads(content)["max_file_size"] == 64 * 1024**2


def send(url: str, path: Path) -> None:
    """Uploads a file and tells the tab that takes such files, as the page does."""
    (there,) = requests.post(url + "gradio_api/upload", files={"files": path.open("rb")}, timeout=20).json()
    config = requests.get(url + "config", timeout=20).json()
    takes = {c["id"] for c in config["components"] if path.suffix in (c["props"].get("file_types") or ())}
    told = [e for e in config["dependencies"] if any(at in takes and what == "upload" for at, what in e["targets"])]
    content = {"path": there, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
    for event in told:
        wish = {
            "data": [content, *[None] * (len(event["inputs"]) - 1)],
            "fn_index": event["id"],
            "session_hash": path.name,
        }
        assert requests.post(url + "gradio_api/queue/join", json=wish, timeout=20).ok


@pytest.mark.parametrize("name", ["mine.npy", "wrong.npy", "mine.png", "damaged.png"])
def test_what_a_visitor_sends_lies_in_a_private_folder_and_is_deleted_once_read(server, folder, name):
    (own,) = (folder / "cache").glob("recon-uploads-*")
    assert own.stat().st_mode & 0o777 == 0o700
    np.save(folder / "mine.npy", np.zeros((3, 7), np.float32))
    np.save(folder / "wrong.npy", np.zeros((3, 8), np.float32))
    Image.new("RGB", (64, 64)).save(folder / "mine.png")
    (folder / "damaged.png").write_bytes((folder / "mine.png").read_bytes()[:60])
    send(server[0], folder / name)
    deadline = time.time() + 20
    while [p for p in own.rglob("*") if p.is_file() and p.stat().st_size]:
        assert time.time() < deadline
        time.sleep(0.1)


def test_reconstructions_go_on_when_the_cache_folder_cannot_be_written(server, folder):
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / "cache").write_text("no folder: whatever is written below it fails, as on a full disk")
    job = Client(server[0], verbose=False, download_files=False).submit(api_name="/endless")
    shown = [next(job) for _ in range(30)]
    job.cancel()
    assert len(set(shown)) == 30
    assert ask(server[0])[0] == 200


def test_a_reader_who_leaves_ends_the_reconstruction(server):
    url, _, log = server
    job = Client(url, verbose=False, download_files=False).submit(api_name="/endless")
    next(job)
    job.cancel()
    deadline = time.time() + 10
    while json.loads(log.read_text().strip().split("\n")[-1]).get("ended") != "left":
        assert time.time() < deadline
        time.sleep(0.1)
    before = log.read_text()
    time.sleep(0.5)
    assert log.read_text() == before


def test_ctrl_c_during_a_reconstruction_ends_the_server_at_once_and_without_a_traceback(tmp_path, bundle):
    with endless(tmp_path, bundle) as (url, process, log):
        next(Client(url, verbose=False, download_files=False).submit(api_name="/endless"))
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN) == 0
        said = log.read_text()
        assert "Traceback" not in said and "terminate called" not in said


def test_ctrl_c_ends_a_command_at_once_and_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "precompute", "demo", "--smoke", "--work", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "made in" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode == 130
    assert "Traceback" not in said and "terminate called" not in said


def test_sigterm_during_a_reconstruction_ends_the_server_at_once(server):
    url, process, log = server
    next(Client(url, verbose=False, download_files=False).submit(api_name="/endless"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(ENDS_WITHIN) == 0
    told = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert {line["event"] for line in told} == {"reconstruction"}
