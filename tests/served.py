"""`python app.py` in a process of its own, and a browser for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def open_browser(*flags: str) -> Iterator:
    """Debian's Chromium, driven by Playwright. Skips the test where one of them is missing."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield browser
        browser.close()


@contextmanager
def serve_apps(*environments: dict[str, str]) -> Iterator[list[str]]:
    """Starts an app with each of the environments and waits until all answer; yields their addresses."""
    ports = [free_port() for _ in environments]
    start = time.perf_counter()
    apps = [
        subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=os.environ | env | {"GRADIO_SERVER_PORT": str(port)})
        for env, port in zip(environments, ports)
    ]
    urls = [f"http://127.0.0.1:{port}/" for port in ports]
    try:
        for app, url in zip(apps, urls):
            wait_for(app, url, start + 90)
        print(f"\nserver answers after {time.perf_counter() - start:.1f} s")
        yield urls
    finally:
        for app in apps:
            app.terminate()
        for app in apps:
            app.wait(20)


def wait_for(app: subprocess.Popen, url: str, deadline: float) -> None:
    while True:
        assert app.poll() is None, f"app.py ended with exit code {app.returncode}"
        assert time.perf_counter() < deadline, "app.py does not answer after 90 s"
        try:
            return urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.1)


def open_tab(page, name):
    """By a click, or from the menu of those that do not fit a narrow screen."""
    tab = page.locator(f'button[role=tab]:visible:has-text("{name}")')
    if not tab.count():
        page.locator(".overflow-menu > button").click()
        tab = page.locator(f'.overflow-dropdown button:has-text("{name}")')
    tab.first.click()
