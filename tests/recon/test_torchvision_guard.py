"""A torchvision that does not fit torch is named by what needs it, and bothers nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USE = """
from recon.torchvision_guard import why_unusable
print(why_unusable())
from diffusers import StableDiffusionImg2ImgPipeline
from transformers import CLIPTextModel, CLIPVisionModelWithProjection
from precompute.evaluation.network_metrics import absent_networks
print(absent_networks()["alexnet2"])
"""
FAILURES = {
    "an operator is missing": "raise RuntimeError('operator torchvision::nms does not exist')",
    "a library is missing": "raise OSError('libcudart.so.13: cannot open shared object file')",
    "a symbol is missing": "import torchvision._missing",
}


def with_torchvision(folder: Path, text: str) -> subprocess.CompletedProcess:
    (folder / "torchvision" / "transforms").mkdir(parents=True)
    (folder / "torchvision" / "__init__.py").write_text(text)
    (folder / "torchvision" / "transforms" / "__init__.py").write_text("")
    (folder / "torchvision-0.99.dist-info").mkdir()
    (folder / "torchvision-0.99.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.99\n"
    )
    env = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}
    return subprocess.run([sys.executable, "-c", USE], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("what", FAILURES)
def test_stage_2_and_clip_open_beside_a_torchvision_that_does_not_fit(tmp_path, what):
    run = with_torchvision(tmp_path, FAILURES[what])
    assert run.returncode == 0, run.stderr
    why, command = run.stdout.splitlines()
    assert why.startswith("torchvision does not fit the torch that is installed (")
    assert command.startswith("pip install --force-reinstall --no-deps torchvision") and command.endswith(
        "fetch metrics"
    )
