"""Looks the installed packages up among the known vulnerabilities. Exit code 1 if there are some; says so and passes where no
service of vulnerabilities can be reached."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 120
COMMAND = ["pip-audit", "--local", "--timeout", "5", "--progress-spinner", "off", "--format", "json", "--output"]


def look_up() -> list[dict]:
    """The packages about which the service knew something; none if it could not be asked."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        try:
            subprocess.run([*COMMAND, report], capture_output=True, timeout=SECONDS)
            packages = json.loads(report.read_text())["dependencies"]
        except (subprocess.TimeoutExpired, FileNotFoundError, ValueError):
            return []
    return [package for package in packages if "skip_reason" not in package]


def main() -> None:
    audited = look_up()
    if not audited:
        return print("Dependencies were not audited: no service of vulnerabilities can be reached.")
    bad = [package for package in audited if package["vulns"]]
    print(f"{len(audited)} dependencies were audited, {len(bad)} have known vulnerabilities.")
    for package in bad:
        print(package["name"], package["version"], *(v["id"] for v in package["vulns"]))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
