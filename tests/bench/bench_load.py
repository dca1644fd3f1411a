"""Many visitors at once: python tests/bench/bench_load.py [--clients 20] [--seconds 180]

Starts the page, asks for every selection once, alone, and remembers the answers. Then each client asks for selections in
random order, leaves some before they are done, and asks for some that do not exist. Every answer has to name what was asked
for and to show the picture remembered. Prints JSON last; exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

sys.path.insert(0, str(Path(__file__).parents[1]))
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from served import free_port, wait_for

ROOT = Path(__file__).parents[2]
PICTURES, SEEDS, STEPS = range(0, 24, 3), (0, 1), (2, 4)
SELECTIONS = [(index, {"seed": seed, "steps": n}) for index in PICTURES for seed in SEEDS for n in STEPS]
BAD = [(-1, {}), (10**6, {}), (0, {"steps": 99}), (0, {"strength": 7.0}), (0, {"regressor": "none"}), (0, {"seed": -1})]
LEAVES, ASKS_NONSENSE = 0.15, 0.15  # shares of the requests


@dataclass
class Tally:
    seconds: list[float] = field(default_factory=list)  # of answers that were waited for
    requests: int = 0
    server_errors: int = 0
    mixed_up: int = 0


def ask(client: Client, index: int, settings: dict) -> tuple[dict, str]:
    """What the answer says it is, and the checksum of its pixels."""
    answer = client.predict(index, **settings, api_name="/reconstruct")
    with Image.open(io.BytesIO(base64.b64decode(answer["png"]))) as picture:
        return answer["record"], hashlib.sha256(picture.tobytes()).hexdigest()


def fits(record: dict, index: int, settings: dict) -> bool:
    return record["picture"] == index and settings.items() <= record["settings"]["lcm"].items()


def visit(client: Client, rng: random.Random, deadline: float, expected: list[str]) -> Tally:
    """One client until the deadline."""
    tally = Tally()
    while time.monotonic() < deadline:
        tally.requests += 1
        chance = rng.random()
        try:
            if chance < LEAVES:
                leave(client, rng)
            elif chance < LEAVES + ASKS_NONSENSE:
                tally.server_errors += not refused(client, *rng.choice(BAD))
            else:
                k, start = rng.randrange(len(SELECTIONS)), time.monotonic()
                record, pixels = ask(client, *SELECTIONS[k])
                tally.seconds.append(time.monotonic() - start)
                tally.mixed_up += pixels != expected[k] or not fits(record, *SELECTIONS[k])
        except Exception as error:  # the client raises those of several libraries
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            tally.server_errors += 1
    return tally


def leave(client: Client, rng: random.Random) -> None:
    index, settings = rng.choice(SELECTIONS)
    job = client.submit(index, **settings, api_name="/reconstruct")
    time.sleep(rng.random())
    job.cancel()


def refused(client: Client, index: int, settings: dict) -> bool:
    """Whether nonsense is answered by a sentence."""
    try:
        ask(client, index, settings)
    except AppError as error:
        return len(str(error)) > 20
    return False


def resident(process: subprocess.Popen) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text()).group(1))


def measure(url: str, app: subprocess.Popen, n_clients: int, seconds: float) -> dict:
    first = Client(url, verbose=False, download_files=False)
    expected = [ask(first, *selection)[1] for selection in SELECTIONS]
    clients = [Client(url, verbose=False, download_files=False) for _ in range(n_clients)]
    before, deadline = resident(app), time.monotonic() + seconds
    with ThreadPoolExecutor(n_clients) as pool:
        tallies = list(pool.map(lambda k: visit(clients[k], random.Random(k), deadline, expected), range(n_clients)))
    waited = [s for t in tallies for s in t.seconds]
    requests = sum(t.requests for t in tallies)
    return {
        "requests": requests,
        "server_errors": sum(t.server_errors for t in tallies),
        "mixed_up": sum(t.mixed_up for t in tallies),
        "throughput": round(requests / seconds, 2),
        "p50_s": round(quantiles(waited, n=20)[9], 2),
        "p95_s": round(quantiles(waited, n=20)[18], 2),
        "rss_growth": round(resident(app) / before - 1, 4),
        "requests_a_client": [min(t.requests for t in tallies), max(t.requests for t in tallies)],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=180)
    options, port = parser.parse_args(), free_port()
    env = os.environ | {"GRADIO_SERVER_PORT": str(port)}
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    try:
        wait_for(app, f"http://127.0.0.1:{port}/healthz", time.perf_counter() + 90)
        result = measure(f"http://127.0.0.1:{port}/", app, options.clients, options.seconds)
    finally:
        app.terminate()
    print(json.dumps(result))
    sys.exit(result["server_errors"] + result["mixed_up"] > 0 or abs(result["rss_growth"]) > 0.05)


if __name__ == "__main__":
    main()
