"""What README tells programs to do works as it stands there, at another address."""

import os
import re
import subprocess
import sys

import pytest
from served import ROOT, serve_apps

ADDRESS = "http://localhost:7860"
EXAMPLES = [
    (language, text)
    for language, text in re.findall(r"```(python|bash)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    if f"{ADDRESS}/gradio_api" in text or f'Client("{ADDRESS}")' in text
]


@pytest.fixture(scope="module")
def url():
    with serve_apps({}) as (url,):
        yield url.rstrip("/")


@pytest.mark.exhaustive
@pytest.mark.parametrize("language, text", EXAMPLES, ids=[language for language, _ in EXAMPLES])
def test_an_example_of_readme_ends_with_an_image(url, tmp_path, language, text):
    shell = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(tmp_path)}
    run = subprocess.run(
        [*shell, text.replace(ADDRESS, url)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert ".png" in run.stdout and "versions" in run.stdout and '"error"' not in run.stdout


def test_readme_has_an_example_for_python_and_one_for_curl():
    assert [language for language, _ in EXAMPLES] == ["python", "bash"]
