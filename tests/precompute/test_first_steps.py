"""The notebook of first steps runs from its first cell to its last, without a network, and leaves a bundle that opens."""

from pathlib import Path

import pytest
from served import free_port

from recon.brain.space import Geometry
from recon.bundle.bundle import load_bundle
from recon.files import load_json

NOTEBOOK = Path(__file__).parents[2] / "precompute" / "first_steps.ipynb"


def cells() -> list[str]:
    return ["".join(cell["source"]) for cell in load_json(NOTEBOOK)["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_every_cell_runs_in_order_and_makes_a_bundle(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setenv("FIRST_STEPS", str(tmp_path))
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(free_port()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names: dict = {}
    try:
        for number, source in enumerate(cells()):
            exec(compile(source, f"cell {number}", "exec"), names)
    finally:
        if "page" in names:
            names["page"].kill()
    assert names["page"].returncode is not None
    assert "60: 50 for training, 10 for the test, as trials.csv gives it" in capfd.readouterr().out
    bundle = load_bundle(tmp_path / "bundle")
    assert isinstance(bundle.subject.geometry, Geometry) and set(bundle.subject.geometry.rois) == {"pole", "around it"}
    assert len(bundle.subject.test.images) == 10 and bundle.scores.noise_ceiling.mean() > 20


def test_no_cell_keeps_an_output():
    notebook = load_json(NOTEBOOK)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])
