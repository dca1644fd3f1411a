"""Where the log goes has no say in what visitors get."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from gradio_client import Client
from served import free_port, wait_for

from recon.ui.server.log import Unfailing

ROOT = Path(__file__).parents[3]
HEAD = [sys.executable, "-c", "import sys; sys.stdin.readline()"]  # head -1


@pytest.fixture
def start(tiny_bundle):
    """Starts a page with the given stdout and stderr, and waits until both stages can run; returns its address."""
    processes = []

    def start_page(command: list[str], stdout, stderr=None) -> str:
        port = free_port()
        env = os.environ | {"RECON_BUNDLE": str(tiny_bundle), "GRADIO_SERVER_PORT": str(port)}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=stdout, stderr=stderr)
        processes.append(process)
        wait_for(process, f"http://127.0.0.1:{port}/healthz", time.perf_counter() + 120)
        return f"http://127.0.0.1:{port}/"

    yield start_page
    for process in processes:
        process.kill()
        process.wait()


def reconstruct(url: str) -> dict:
    job = Client(url, verbose=False, download_files=False).submit(0, api_name="/reconstruct")
    *_, last = job
    return last


@pytest.mark.slow
def test_the_page_goes_on_when_whoever_read_its_log_has_gone(start):
    with ExitStack() as stack:
        reader, writer = os.pipe()
        head = stack.enter_context(subprocess.Popen(HEAD, stdin=reader))
        os.close(reader)
        url = start([sys.executable, "app.py"], writer)
        os.close(writer)
        assert head.wait(20) == 0
        assert "record" in reconstruct(url) and "record" in reconstruct(url)
        assert json.loads(urllib.request.urlopen(url + "healthz", timeout=20).read())["ready"]


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">/dev/full 2>/dev/full", ">&- 2>&-"])
def test_the_page_goes_on_when_its_log_cannot_be_written(start, redirection):
    url = start(["sh", "-c", f"exec {sys.executable} app.py {redirection}"], None)
    assert "record" in reconstruct(url)


class Broken:
    encoding = "ascii"

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "No space left"), ValueError("I/O operation on closed file")]
)
def test_a_stream_that_cannot_be_written_raises_nothing(error):
    stream = Unfailing(Broken(error))
    print("a line", file=stream, flush=True)
    assert stream.write("four") == 4 and stream.encoding == "ascii"


def test_what_can_be_written_is(tmp_path):
    with open(tmp_path / "log", "w") as file:
        print("a line", file=Unfailing(file), flush=True)
        assert (tmp_path / "log").read_text() == "a line\n"
