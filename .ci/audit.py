"""Looks the installed packages up among the known vulnerabilities.

Exit code 1 if there are some, 2 if they could not be looked up though the service answers. Says so and passes where the service
cannot be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

SECONDS = 120
SERVICE = "https://pypi.org/simple/pip/"
COMMAND = ["pip-audit", "--local", "--timeout", "5", "--progress-spinner", "off", "--format", "json", "--output"]


class NotAudited(Exception):
    """The auditor is missing, crashed or was too slow, and why."""


def look_up() -> list[dict]:
    """The packages about which the service knew something. Raises NotAudited."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        try:
            done = subprocess.run([*COMMAND, report], capture_output=True, text=True, timeout=SECONDS)
            packages = json.loads(report.read_text())["dependencies"]
        except subprocess.TimeoutExpired:
            raise NotAudited(f"pip-audit took more than {SECONDS} s") from None
        except FileNotFoundError as error:
            said = done.stderr.strip().splitlines()[-1:] if error.filename != COMMAND[0] else []
            raise NotAudited(said[0] if said else f"{error.filename} is missing") from None
        except (ValueError, KeyError, TypeError) as error:
            raise NotAudited(f"pip-audit's report cannot be read ({error})") from None
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        raise NotAudited("pip-audit skipped every package")
    return audited


def is_reachable() -> bool:
    """Whether the service answers at all."""
    try:
        urlopen(SERVICE, timeout=5).close()
    except HTTPError:
        return True
    except (URLError, OSError):
        return False
    return True


def main() -> None:
    try:
        audited = look_up()
    except NotAudited as reason:
        print(f"Dependencies were not audited: {reason}.")
        sys.exit(2 if is_reachable() else 0)
    bad = [package for package in audited if package["vulns"]]
    print(f"{len(audited)} dependencies were audited, {len(bad)} have known vulnerabilities.")
    for package in bad:
        print(package["name"], package["version"], *(v["id"] for v in package["vulns"]))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
