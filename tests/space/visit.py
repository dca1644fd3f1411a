"""Waits for an app that has just been started, has it reconstruct, and prints how long that took and what memory, as JSON.

python visit.py ADDRESS PROCESS STARTED FACTS     seconds since the epoch; JSON to print along
"""

from __future__ import annotations

import json
import platform
import re
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

from gradio_client import Client

MAX_SECONDS, MAX_GB, PATIENCE = 25, 3, 120


def wait_for(address: str, process: str) -> float:
    """Polls until it answers with status 200; returns the time then."""
    deadline = time.time() + PATIENCE
    while time.time() < deadline:
        if not Path("/proc", process).exists():
            sys.exit(f"process {process} ended before {address} answered")
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return time.time()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"{address} did not answer in {PATIENCE} s")


def peak_gb(process: str) -> float:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc", process, "status").read_text()).group(1)) / 1e6


def main(address: str, process: str, started: str, facts: str) -> None:
    page = wait_for(address, process) - float(started)
    ready = wait_for(f"{address}healthz", process) - float(started)
    client, before = Client(address, verbose=False), time.time()
    for index in range(3):
        client.predict(index, api_name="/reconstruct")
    result = json.loads(facts) | {
        "python": platform.python_version(),
        "gradio": version("gradio"),
        "seconds_to_page": round(page, 1),
        "seconds_to_ready": round(ready, 1),
        "seconds_a_reconstruction": round((time.time() - before) / 3, 2),
        "peak_rss_gb": round(peak_gb(process), 2),
    }
    print(json.dumps(result))
    sys.exit(ready > MAX_SECONDS or result["peak_rss_gb"] > MAX_GB)


if __name__ == "__main__":
    main(*sys.argv[1:])
