"""All that this product reads from environment variables, each checked and refused by its name; no other module reads any.

A variable that is set but empty counts as not set.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from pathlib import Path

from recon.unreadable import BadFile

ROOT = Path(__file__).parents[1]
PORT, HOST, TEMPORARY = "GRADIO_SERVER_PORT", "GRADIO_SERVER_NAME", "GRADIO_TEMP_DIR"
BUNDLE, MODELS, LOCK, HOSTS = "RECON_BUNDLE", "RECON_MODELS", "RECON_LOCK", "RECON_HOSTS"
LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
MEETING = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # without which the processes of a team cannot find one another


def _text(name: str) -> str:
    return os.environ.get(name, "").strip()


def _whole(name: str, default: int, low: int, high: int) -> int:
    text = _text(name)
    if text and not (re.fullmatch("[0-9]{1,9}", text) and low <= int(text) <= high):
        raise BadFile(f"{name}: expected a whole number from {low} to {high}, got {text[:60]!r}")
    return int(text or default)


def port() -> int:
    """Where the page is served. Raises BadFile for anything but a port."""
    return _whole(PORT, 7860, 1, 65535)


def host() -> str:
    """The address that the page listens at."""
    return _text(HOST) or "127.0.0.1"


def check_address() -> None:
    """Raises BadFile if the page cannot be served at its address: another program holds it, no rights, or no such address."""
    try:
        family, *_, address = socket.getaddrinfo(host(), port(), type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(address)
            s.listen(1)
    except socket.gaierror:
        raise BadFile(f"{HOST}: expected an address of this computer, got {host()!r}") from None
    except PermissionError:
        raise BadFile(f"port {port()} is for the administrator alone: choose one above 1023 with {PORT}") from None
    except OSError as error:
        reason = "is taken by another program" if error.errno == 98 else f"cannot be used ({error.strerror})"
        raise BadFile(f"port {port()} at {host()} {reason}: choose another with {PORT}, or end that program") from None


def bundles() -> str:
    """Which bundles the page shows: places, separated by commas."""
    return _text(BUNDLE) or str(ROOT / "assets" / "demo")


def models_folder() -> Path:
    """Where single files of published models lie. Raises BadFile if it is told to be a file."""
    folder = Path(_text(MODELS) or ROOT / "data" / "models")
    if folder.is_file():
        raise BadFile(f"{MODELS}: expected a folder, got the file {folder}")
    return folder


def lock_file() -> Path:
    """Where the revisions of published models are written down. Raises BadFile if it is told to be a folder."""
    path = Path(_text(LOCK) or ROOT / "assets" / "models.lock.json")
    if path.is_dir():
        raise BadFile(f"{LOCK}: expected a file, got the folder {path}")
    return path


def own_names() -> frozenset[str]:
    """Names by which the page may be asked for: those of a Space, and of RECON_HOSTS. Raises BadFile for what is no name."""
    names = [name.strip().lower() for name in (_text("SPACE_HOST"), *_text(HOSTS).split(",")) if name.strip()]
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name):
            raise BadFile(
                f"{HOSTS}: expected names such as brain.example.org, got {name[:60]!r}: leave out scheme, port and path"
            )
    return frozenset(names)


def root_path() -> str:
    """The prefix that a proxy gives to the page, or its whole address; "" without one. Raises BadFile for anything else."""
    given = _text("GRADIO_ROOT_PATH").rstrip("/")
    if given and not re.fullmatch(r"(https?://[^/\s]+)?(/[\w.~%-]+)*", given):
        raise BadFile(f"GRADIO_ROOT_PATH: expected a prefix such as /brain, or an address, got {given[:60]!r}")
    return given


def is_zero_gpu() -> bool:
    return _text("SPACES_ZERO_GPU").lower() in ("1", "t", "true")


def temporary_folder() -> Path:
    """Where the page may make its private folder, which is made if it is not there. Raises BadFile if it cannot be written to."""
    named = _text(TEMPORARY)
    folder = Path(named or tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        advice = "name another" if named else f"name one with {TEMPORARY}"
        raise BadFile(
            f"{TEMPORARY}: expected a folder to write to, got {folder} ({error.strerror}): {advice}"
        ) from None
    return folder


def world_size() -> int:
    """How many processes work together. Raises BadFile if a number was left over from a launch that is not this one."""
    size = _whole("WORLD_SIZE", 1, 1, 9999)
    missing = [name for name in MEETING if not _text(name)]
    if size > 1 and missing:
        raise BadFile(
            f"WORLD_SIZE: expected it beside {missing[0]}, got {size} alone: use `accelerate launch`, or unset it"
        )
    if size > 1:
        _whole("RANK", 0, 0, size - 1)
    return size


def local_rank() -> int:
    """Which GPU of its computer a process of a team works on."""
    return _whole("LOCAL_RANK", 0, 0, 9999)


def settle() -> None:
    """Puts what gradio and others read, some of it while they are imported, into a state that they can read.

    Gradio asks its own server whether it answers: no proxy may stand between. Raises BadFile.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_NUM_PORTS"] = str(_whole("GRADIO_NUM_PORTS", 1, 1, 65535))
    os.environ[PORT], os.environ[HOST] = str(port()), host()
    os.environ["GRADIO_ROOT_PATH"] = root_path()
    own_names()
    if not _text("OMP_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = "1"  # one picture is too small to share among busy cores
    for name in ("NO_PROXY", "no_proxy"):
        given = [part.strip() for part in _text(name).split(",") if part.strip()]
        os.environ[name] = ",".join(dict.fromkeys([*given, *LOOPBACK, host()]))
    if _text("ALL_PROXY").startswith("socks") or _text("all_proxy").startswith("socks"):
        _need_socks()


def _need_socks() -> None:
    """Raises BadFile if a SOCKS proxy is set whose library is not there: every request would fail, one to this computer too."""
    from importlib.util import find_spec

    if find_spec("socksio") is None:
        raise BadFile(
            "ALL_PROXY: names a SOCKS proxy, for which `pip install socksio` is needed: install it, or unset ALL_PROXY"
        )
