"""What is installed: floors that exclude known holes, and a lock that fits them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FLOORS = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LOCK = (ROOT / "requirements.lock").read_text()


def test_no_diffusers_is_allowed_that_runs_a_pipelines_own_code_without_being_told_to():
    """Up to 0.37 a folder's model_index.json could name a Python file beside it, whatever `trust_remote_code` said."""
    (diffusers,) = (r.specifier for r in FLOORS if r.name == "diffusers")
    assert not [v for v in ("0.30.0", "0.36.0", "0.37.0", "0.37.1") if Version(v) in diffusers]
    assert Version("0.38.0") in diffusers


def test_every_locked_version_has_checksums_and_fits_its_floor():
    blocks = re.findall(r"^([a-z][\w.-]*)==(\S+).*((?:\n +.*)*)", LOCK, re.MULTILINE)
    locked = {name: version for name, version, _ in blocks}
    assert len(blocks) > 50 and all("--hash=sha256:" in rest for *_, rest in blocks)
    for floor in FLOORS:
        assert locked[canonicalize_name(floor.name)] in floor.specifier, floor
    for extra in map(Requirement, (line for lines in EXTRAS.values() for line in lines)):
        found = locked.get(canonicalize_name(extra.name))
        assert found is None or found in extra.specifier, extra


@pytest.mark.parametrize("line", ["-e", "git+", "http://", "https://", "file:"])
def test_the_lock_names_nothing_but_packages_of_the_index(line):
    assert not re.search(rf"^\s*{re.escape(line)}|@ {re.escape(line)}", LOCK, re.MULTILINE)
