"""Every environment variable that the product reads is checked, and refused by its name."""

import ast
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from precompute.team import team
from recon import environment
from recon.files import BadFile

ROOT = Path(__file__).parents[2]
PASSED_ON = {  # who may touch os.environ besides: to hand it on, or to read what the user names
    "recon/environment.py",
    "recon/limited.py",
    "recon/ui/server/startup.py",
    "recon/ui/server/received.py",
    "precompute/publishing/publish_space.py",
}

BAD = [
    (environment.port, "GRADIO_SERVER_PORT", ["abc", "99999", "0", "-1", "7860.0", "7e3", "٣"]),
    (environment.settle, "GRADIO_NUM_PORTS", ["x"]),
    (environment.settle, "GRADIO_SERVER_PORT", ["http"]),
    (environment.settle, "RECON_HOSTS", ["https://lab.example.org", "lab.example.org/brain", "a b"]),
    (environment.root_path, "GRADIO_ROOT_PATH", ["brain", "/a b", "ftp://x"]),
    (environment.world_size, "WORLD_SIZE", ["4", "two", "0", "-2"]),
    (environment.local_rank, "LOCAL_RANK", ["first"]),
    (environment.models_folder, "RECON_MODELS", [__file__]),
    (environment.lock_file, "RECON_LOCK", [str(ROOT)]),
    (environment.temporary_folder, "GRADIO_TEMP_DIR", [__file__, f"{__file__}/below", "/proc/no"]),
    (environment.check_address, "GRADIO_SERVER_NAME", ["nowhere.invalid", "not a name"]),
]


@pytest.mark.parametrize("read, name, value", [(r, n, v) for r, n, values in BAD for v in values])
def test_a_bad_value_is_refused_by_the_name_of_its_variable(monkeypatch, read, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(BadFile, match=f"^{name}: expected ") as told:
        read()
    assert "\n" not in str(told.value) and len(str(told.value)) < 250


NAMES = (
    "GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS", "WORLD_SIZE", "RECON_BUNDLE", "RECON_MODELS", "RECON_LOCK", "RECON_HOSTS",
    "GRADIO_ROOT_PATH", "GRADIO_TEMP_DIR", "GRADIO_SERVER_NAME",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_counts_as_not_set(monkeypatch, name, empty):
    monkeypatch.delenv(name, raising=False)
    reads = (environment.port, environment.world_size, environment.bundles, environment.models_folder, environment.lock_file,
             environment.own_names, environment.root_path, environment.temporary_folder, environment.host)  # fmt: skip
    before = [read() for read in reads]
    monkeypatch.setenv(name, empty)
    assert [read() for read in reads] == before


@pytest.mark.parametrize(
    "set_to", [{"WORLD_SIZE": "4"}, {"WORLD_SIZE": "4", "RANK": "1"}, {"WORLD_SIZE": "2", "MASTER_ADDR": "x"}]
)
def test_a_world_size_that_was_left_over_is_told_with_what_to_do(monkeypatch, set_to):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    team.cache_clear()
    with pytest.raises(BadFile, match="WORLD_SIZE: expected it beside .*use `accelerate launch`, or unset it"):
        team()
    monkeypatch.setenv("WORLD_SIZE", "")
    assert team().size == 1


def test_a_port_that_is_taken_is_told_with_what_to_do(monkeypatch):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(s.getsockname()[1]))
        with pytest.raises(BadFile, match="is taken by another program: choose another with GRADIO_SERVER_PORT"):
            environment.check_address()
    environment.check_address()


@pytest.fixture
def settled(monkeypatch):
    """Puts everything back that `settle` sets."""
    for name in ("NO_PROXY", "no_proxy", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS", "GRADIO_ROOT_PATH",
                 "OMP_NUM_THREADS", "GRADIO_ANALYTICS_ENABLED", "ALL_PROXY", "all_proxy"):  # fmt: skip
        monkeypatch.setenv(name, "")
    return monkeypatch


@pytest.mark.parametrize("given", ["", "lab.example.org", "localhost", " .org , 10.0.0.0/8 "])
def test_no_proxy_stands_between_the_page_and_itself(settled, given):
    settled.setenv("NO_PROXY", given)
    settled.setenv("GRADIO_SERVER_NAME", "192.168.1.7")
    environment.settle()
    for name in ("NO_PROXY", "no_proxy"):
        names = os.environ[name].split(",")
        assert {"localhost", "127.0.0.1", "::1", "192.168.1.7"} <= set(names) and len(names) == len(set(names))
    assert set(filter(None, map(str.strip, given.split(",")))) <= set(os.environ["NO_PROXY"].split(","))


def test_a_socks_proxy_without_its_library_is_told(settled):
    settled.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    if find_spec("socksio") is None:
        with pytest.raises(BadFile, match="^ALL_PROXY: names a SOCKS proxy"):
            environment.settle()


def reads_environment(path: Path) -> bool:
    names = {n.attr for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Attribute)}
    return bool(names & {"environ", "getenv"})


def test_variables_are_read_in_one_place():
    files = [ROOT / "app.py", *(ROOT / "recon").rglob("*.py"), *(ROOT / "precompute").rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if reads_environment(path)}
    assert found <= PASSED_ON, f"{found - PASSED_ON} read variables that recon/environment.py should"


def test_the_tests_make_their_own_environment():
    left = [
        name for name in os.environ if name.startswith(("HF_", "RECON_", "SPACE")) or name.upper().endswith("_PROXY")
    ]
    assert set(left) <= {"NO_PROXY", "no_proxy"}, left  # which importing the page sets
    assert sys.modules["conftest"].OURS.fullmatch("https_proxy")
