"""The Hub's write side in place of the public one: repositories, large files, commits, Spaces and their builds."""

from __future__ import annotations

import base64
import hashlib
import json

from stand_ins import LARGE, Handler, Shelf, put_repository

TOKEN = "hf_good"
PREFIX = {"models": "", "spaces": "/spaces"}


class Hub(Shelf):
    """Accepts one token. What is set on it decides how uploads and builds go; what was sent to it can be read off it."""

    def __init__(self):
        super().__init__(WritingHandler)
        self.repositories: dict[str, dict[str, bytes]] = {}  # "spaces/me/page" -> its files
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.settings: dict[str, dict] = {"variables": {}, "secrets": {}, "hardware": {}}
        self.stages = ["BUILDING", "APP_STARTING", "RUNNING"]  # told one after another
        self.build_log = "nothing"
        self.uploads_left = 10**6  # large files that arrive before the connection breaks
        self.quota = 10**12  # bytes of a large file

    def create(self, key: str, private: bool) -> None:
        self.private[key] = private
        self.store(key, {})

    def store(self, key: str, files: dict[str, bytes]) -> str:
        kind, repo = key.split("/", 1)
        self.repositories[key] = files
        return put_repository(self, repo, files, kind, self.private[key])


class WritingHandler(Handler):
    server: Hub

    def do_GET(self):
        parts = self.path.split("?")[0].split("/")
        if self.refuses():
            return
        if parts[1:3] == ["api", "spaces"] and parts[-1] == "runtime":
            stages = self.server.stages
            stage = stages.pop(0) if len(stages) > 1 else stages[0]
            return self.reply({"stage": stage, "hardware": {"current": None, "requested": "cpu-basic"}})
        if parts[-2] == "logs":
            event = json.dumps({"data": self.server.build_log, "timestamp": "2026-01-01T00:00:00Z"})
            return self.reply(f"data: {event}\n\n".encode())
        if parts[1] == "api" and "/".join(parts) not in self.server.files:
            return self.reply({"error": "Repository not found"}, 404)
        super().do_GET()

    def refuses(self) -> bool:
        """Whether the request has another token than the one accepted, which is answered."""
        refused = self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if refused:
            self.reply({"error": "Invalid credentials in Authorization header"}, 401)
        return refused

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(("POST", self.path))
        if self.refuses():
            return
        if self.path.endswith("/info/lfs/objects/batch"):
            return self.reply_to_batch(json.loads(body)["objects"])
        *_, kind, user, name, action, _ = ["", *self.path.split("/"), ""]
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self.reply({})
        if action == "main":  # …/KIND/USER/NAME/ACTION/main
            kind, user, name, action = self.path.split("/")[2:6]
        key = f"{kind}/{user}/{name}"
        if action == "preupload":
            return self.reply({"files": [self.mode(key, f["path"]) for f in json.loads(body)["files"]]})
        if action == "commit":
            return self.commit(key, [json.loads(line) for line in body.splitlines()])
        settings = json.loads(body)
        self.server.settings[action] |= {settings["key"]: settings["value"]} if "key" in settings else settings
        self.reply({"stage": "BUILDING"} if action == "hardware" else {})

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(("PUT", self.path))
        if self.server.uploads_left <= 0:
            self.close_connection = True
            return self.connection.close()
        self.server.uploads_left -= 1
        self.server.large[hashlib.sha256(content).hexdigest()] = content
        self.reply({})

    def create(self, wish: dict) -> None:
        key = f"{wish.get('type', 'model')}s/{wish['organization']}/{wish['name']}"
        url = self.server.url(PREFIX[key.split("/")[0]] + "/" + key.split("/", 1)[1])
        if key in self.server.repositories:
            return self.reply({"error": "You already created this repo", "url": url}, 409)
        self.server.create(key, wish.get("visibility") == "private")
        self.reply({"url": url, "name": key.split("/", 1)[1]})

    def mode(self, key: str, path: str) -> dict:
        there = self.server.repositories[key].get(path)
        large = path.endswith(LARGE)
        oid = None
        if there is not None:
            blob = hashlib.sha1(f"blob {len(there)}\0".encode() + there)
            oid = (hashlib.sha256(there) if large else blob).hexdigest()
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def reply_to_batch(self, objects: list[dict]) -> None:
        if max(o["size"] for o in objects) > self.server.quota:
            return self.reply({"error": "Payload too large"}, 413)
        for o in objects:
            if o["oid"] not in self.server.large:
                o["actions"] = {"upload": {"href": self.server.url(f"/lfs/{o['oid']}")}}
        self.reply({"objects": objects, "transfer": "basic"})

    def commit(self, key: str, lines: list[dict]) -> None:
        files = dict(self.server.repositories[key])
        for line in lines[1:]:
            what = line["value"]
            if line["key"] == "file":
                files[what["path"]] = base64.b64decode(what["content"])
            elif line["key"] == "lfsFile":
                files[what["path"]] = self.server.large[what["oid"]]
            else:
                del files[what["path"]]
        sha = self.server.store(key, files)
        self.reply({"commitUrl": self.server.url(f"/{key}/commit/{sha}"), "commitOid": sha})

    def reply(self, content: dict | bytes, status: int = 200) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if isinstance(content, bytes) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status >= 400:
            self.send_header("X-Error-Message", content["error"])
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(body)
