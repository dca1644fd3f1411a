"""The audit of dependencies tells "none known" from "could not look", and fails where it could have looked."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("audit", Path(__file__).parents[1] / ".ci" / "audit.py")
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)


def auditor(monkeypatch, report: str | None, reachable: bool) -> int:
    """Exit code with an auditor that writes `report`, or crashes."""

    def run(command, **_):
        if report is not None:
            Path(command[-1]).write_text(report)
        return subprocess.CompletedProcess(command, 1, "", "Traceback …\nRuntimeError: broken")

    monkeypatch.setattr(audit.subprocess, "run", run)
    monkeypatch.setattr(audit, "is_reachable", lambda: reachable)
    with pytest.raises(SystemExit) as ended:
        audit.main()
    return int(ended.value.code)


def report_of(*packages: dict) -> str:
    return json.dumps({"dependencies": list(packages)})


CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = CLEAN | {"vulns": [{"id": "CVE-1"}]}
SKIPPED = {"name": "a", "skip_reason": "unknown"}


@pytest.mark.parametrize("report", [None, "", "{", "[]", "null", report_of(), report_of(SKIPPED)])
def test_an_auditor_that_crashed_fails_where_the_service_can_be_reached(monkeypatch, capsys, report):
    assert auditor(monkeypatch, report, reachable=True) == 2
    assert capsys.readouterr().out.startswith("Dependencies were not audited: ")
    assert auditor(monkeypatch, report, reachable=False) == 0


def test_known_vulnerabilities_fail_and_none_pass(monkeypatch, capsys):
    assert auditor(monkeypatch, report_of(CLEAN, SKIPPED), reachable=True) == 0
    assert auditor(monkeypatch, report_of(CLEAN, BAD), reachable=True) == 1
    assert "CVE-1" in capsys.readouterr().out


def test_a_missing_auditor_is_not_taken_for_a_clean_report(monkeypatch):
    monkeypatch.setattr(audit, "COMMAND", ["no-such-auditor"])
    with pytest.raises(audit.NotAudited, match="no-such-auditor is missing"):
        audit.look_up()
