"""Local servers in place of the public ones: one that serves a table of paths, the Hub's paths, and a tap in between."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import psutil

from precompute.folder_lock import LOCK

ROOT = Path(__file__).parents[1]
LARGE = (".safetensors", ".npy", ".h5")  # files that the Hub keeps apart


class Shelf(ThreadingHTTPServer):
    """Serves `files`: path -> (content, headers); understands Range and If-Range. `asked` lists (method, path)."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler] | None = None):
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.asked: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, path: str, content: bytes, **headers: str) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self.files[path] = (content, {"ETag": etag} | {k.replace("_", "-"): v for k, v in headers.items()})

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0].replace("%2F", "/")
        self.server.asked.append((self.command, path))
        if path not in self.server.files:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content, headers = self.server.files[path]
        start = self.start_of_range(headers["ETag"])
        self.send_response(206 if start else 200)
        claimed = None if with_body else headers.get("Claimed-Length")
        self.send_header("Content-Length", claimed or str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content[start:])

    def start_of_range(self, etag: str) -> int:
        wanted = self.headers.get("Range", "bytes=0-")
        return int(wanted[6:].split("-")[0]) if self.headers.get("If-Range", etag) == etag else 0

    def log_message(self, *_):
        pass


def put_repository(
    shelf: Shelf, repo: str, files: dict[str, bytes], kind: str = "models", private: bool = False
) -> str:
    """A new revision, the newest, of a Hub repository; weights count as large files. Returns its revision."""
    sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
    siblings, tree = [], []
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        large = name.endswith(LARGE)
        lfs = {"sha256": digest, "oid": digest, "size": len(content), "pointerSize": 1}
        extra = {"lfs": lfs} if large else {}
        siblings.append({"rfilename": name, "size": len(content), "blobId": oid} | extra)
        tree.append({"type": "file", "path": name, "size": len(content), "oid": oid} | extra)
        prefix = "" if kind == "models" else f"/{kind}"
        shelf.put(
            f"{prefix}/{repo}/resolve/{sha}/{name}", content, X_Repo_Commit=sha, ETag=f'"{digest if large else oid}"'
        )
    info = json.dumps({"id": repo, "sha": sha, "siblings": siblings, "tags": [], "private": private}).encode()
    for path in (f"/api/{kind}/{repo}", f"/api/{kind}/{repo}/revision/{sha}", f"/api/{kind}/{repo}/revision/main"):
        shelf.put(path, info, Content_Type="application/json")
    for revision in (sha, "main"):
        shelf.put(f"/api/{kind}/{repo}/tree/{revision}", json.dumps(tree).encode(), Content_Type="application/json")
    return sha


class Tap:
    """A TCP relay to a local port: counts the bytes that come back, slows them down, cuts one connection off."""

    def __init__(self, upstream: int):
        self.upstream, self.sent, self.rate, self.cut_at = upstream, 0, None, None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def cut_after(self, n_bytes: int) -> None:
        self.cut_at = self.sent + n_bytes

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.upstream))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            threading.Thread(target=self._relay, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._relay, args=(server, client, True), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(1 << 14):
                if counted and self.cut_at is not None and self.sent >= self.cut_at:
                    self.cut_at = None
                    break
                target.sendall(data)
                self.sent += len(data) * counted
                if counted and self.rate:
                    time.sleep(len(data) / self.rate)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def noise(name: str, size: int) -> bytes:
    """Bytes that depend on the name alone."""
    return random.Random(name).randbytes(size)


def point_hub_at(url: str, monkeypatch) -> None:
    """As HF_ENDPOINT does, which the client reads only when it is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )


def occupy(folder: Path) -> int:
    """Makes it look as if the process that started the tests worked in the folder. Returns its number."""
    owner = os.getppid()
    identity = {"host": socket.gethostname(), "process": owner, "started": psutil.Process(owner).create_time()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK).write_text(json.dumps(identity))
    return owner


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


COMMAND = """
import dataclasses, sys
from recon.decoders import published_models as models
models.MODELS["vdvae"] = dataclasses.replace(models.MODELS["vdvae"], source=sys.argv.pop(1))
from precompute.__main__ import app
app()
"""


def start(arguments: list[str], env: dict[str, str]) -> subprocess.Popen:
    url = env.get("VDVAE_URL", "")
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, url, "fetch", *arguments],
        cwd=ROOT,
        env=os.environ | env,
        stderr=subprocess.DEVNULL,
    )


def unfinished(folder: Path) -> dict[str, int]:
    """Partial files, ours and those of the Hub's client, and how far they came."""
    return {str(p): p.stat().st_size for kind in (".*.part", "*.incomplete") for p in folder.rglob(kind)}


def kill_ten_times(arguments: list[str], env: dict[str, str], taps: list[Tap], folder: Path, most: int) -> list[str]:
    """Kills the command ten times, each after a random number of bytes below `most`, then lets it finish.

    Returns the names of the partial files that a killed run left behind, or longer than it found them.
    """
    rng, grown, before = random.Random(0), [], {}
    for _ in range(10):
        target = sum(tap.sent for tap in taps) + rng.randrange(most)
        process = start(arguments, env)
        while sum(tap.sent for tap in taps) < target and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -9, "finished before it was killed: slow the tap down"
        after = unfinished(folder)
        grown += [Path(name).name for name, size in after.items() if size > before.get(name, -1)]
        before = after
    for tap in taps:
        tap.rate = None
    assert start(arguments, env).wait() == 0
    return grown
