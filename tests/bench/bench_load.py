"""Many visitors at once: python tests/bench/bench_load.py [--clients 20] [--seconds 180]

Starts the page, asks for every selection once, alone, and remembers the answers. Then each client asks for selections in
random order, leaves some before they are done, and asks for some that do not exist. Every answer has to name what was asked
for and to show the picture remembered. Prints JSON last; exit code 1 if anything was wrong.

--attack: twice as long, in the second half beside one address that sends whatever is costly: pictures of thousands of scans,
bodies of 100 MB, more reconstructions with prompts of its own than it may have waiting, and sessions without end. Honest
visitors' waiting is told for both halves; exit code 1 also if theirs is more than three times as long.
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
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from threading import Event
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parents[1]))
import requests
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from served import free_port, wait_for

ROOT = Path(__file__).parents[2]
PICTURES, SEEDS, STEPS = range(0, 24, 3), (0, 1), (2, 4)
SELECTIONS = [(index, {"seed": seed, "steps": n}) for index in PICTURES for seed in SEEDS for n in STEPS]
BAD = [(-1, {}), (10**6, {}), (0, {"steps": 99}), (0, {"strength": 7.0}), (0, {"regressor": "none"}), (0, {"seed": -1})]
ATTACKER = "10.9.9.9"  # the address that a proxy tells of it
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


class Attack:
    """One address that sends what is costly, until it is ended; counts what it sent, and answers of 500 and above."""

    def __init__(self, url: str):
        self.url, self.ended, self.sent, self.server_errors = url, Event(), Counter(), 0
        self.headers = {"x-forwarded-for": ATTACKER}
        config = requests.get(f"{url}config", timeout=20).json()
        uploads = {c["id"] for c in config["components"] if c["type"] == "file" and ".png" in c["props"]["file_types"]}
        events = [(d["id"], target) for d in config["dependencies"] for target in d["targets"]]
        self.reads_picture = next(i for i, (component, event) in events if component in uploads and event == "upload")
        self.picture = many_scans()

    def run(self, way: Callable[[], requests.Response]) -> None:
        while not self.ended.is_set():
            try:
                self.server_errors += way().status_code >= 500
            except requests.RequestException:  # it was sent away before all was sent
                pass
            self.sent[way.__name__] += 1

    def _join(self, function: int, data: list, session: str) -> requests.Response:
        wish = {"data": data, "fn_index": function, "session_hash": session}
        return requests.post(f"{self.url}gradio_api/queue/join", json=wish, headers=self.headers, timeout=60)

    def costly_picture(self) -> requests.Response:
        files = {"files": ("mine.jpg", self.picture)}
        sent = requests.post(f"{self.url}gradio_api/upload", files=files, headers=self.headers, timeout=60)
        if not sent.ok:
            return sent
        picture = {"path": sent.json()[0], "orig_name": "mine.jpg", "meta": {"_type": "gradio.FileData"}}
        return self._join(self.reads_picture, [picture, None], uuid4().hex)

    def large_body(self) -> requests.Response:
        pieces = (bytes(1 << 20) for _ in range(100))
        return requests.post(f"{self.url}gradio_api/queue/join", data=pieces, headers=self.headers, timeout=60)

    def own_prompt(self) -> requests.Response:
        wish = {"index": 0, "prompt": "own", "own_prompt": uuid4().hex * 9}
        where = f"{self.url}gradio_api/call/v2/reconstruct"
        return requests.post(where, json=wish, headers=self.headers, timeout=60)

    def new_session(self) -> requests.Response:
        return self._join(0, ["?picture=1", None, None], uuid4().hex)


def many_scans() -> bytes:
    """A progressive JPEG whose decoder goes through all its pixels thousands of times."""
    buffer = io.BytesIO()
    Image.effect_noise((1200, 1200), 60).convert("RGB").save(buffer, "jpeg", progressive=True, quality=30)
    content = buffer.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * (600_000 // (len(content) - last)) + b"\xff\xd9"


def measure_attack(url: str, app: subprocess.Popen, n_clients: int, seconds: float) -> dict:
    """Honest visitors alone, then beside an attack."""
    alone = measure(url, app, n_clients, seconds)
    attack = Attack(url)
    ways = (attack.costly_picture, attack.large_body, attack.new_session, *[attack.own_prompt] * 8)
    with ThreadPoolExecutor(len(ways)) as pool:
        running = [pool.submit(attack.run, way) for way in ways]
        try:
            beside = measure(url, app, n_clients, seconds)
        finally:
            attack.ended.set()
        for one in running:
            one.result()
    told = {"sent": dict(attack.sent), "its_server_errors": attack.server_errors}
    return beside | told | {"alone": alone, "p95_ratio": round(beside["p95_s"] / alone["p95_s"], 2)}


def measure(url: str, app: subprocess.Popen, n_clients: int, seconds: float) -> dict:
    first = Client(url, verbose=False, download_files=False)
    expected = [ask(first, *selection)[1] for selection in SELECTIONS]
    addresses = [{"x-forwarded-for": f"10.0.0.{k + 1}"} for k in range(n_clients)]
    clients = [Client(url, verbose=False, download_files=False, headers=address) for address in addresses]
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
        "longest_s": round(max(waited), 2),
        "rss_growth": round(resident(app) / before - 1, 4),
        "requests_a_client": [min(t.requests for t in tallies), max(t.requests for t in tallies)],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--attack", action="store_true", help="also beside somebody who sends what is costly")
    options, port = parser.parse_args(), free_port()
    env = os.environ | {"GRADIO_SERVER_PORT": str(port)}
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    try:
        wait_for(app, f"http://127.0.0.1:{port}/healthz", time.perf_counter() + 90)
        how = measure_attack if options.attack else measure
        result = how(f"http://127.0.0.1:{port}/", app, options.clients, options.seconds)
    finally:
        app.terminate()
    print(json.dumps(result))
    errors = result["server_errors"] + result["mixed_up"] + result.get("its_server_errors", 0)
    sys.exit(errors > 0 or abs(result["rss_growth"]) > 0.05 or result.get("p95_ratio", 0) > 3)


if __name__ == "__main__":
    main()
