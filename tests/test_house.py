"""The flow is one way: app and precompute use recon, never the reverse, and the models do not know one another."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "recon").glob("*.py")), ids=lambda p: p.name)
def test_recon_imports_neither_app_nor_precompute_nor_gradio(path):
    assert not {n for n in imports(path) if n.split(".")[0] in ("app", "precompute", "gradio")}


def test_the_page_imports_neither_app_nor_precompute():
    for path in (ROOT / "recon" / "ui").glob("*.py"):
        assert not {n for n in imports(path) if n.split(".")[0] in ("app", "precompute")}


def test_app_does_not_import_precompute():
    assert not {n for n in imports(ROOT / "app.py") if n.split(".")[0] == "precompute"}


MODELS = ("vdvae", "clip", "lcm", "ridge", "mlp")


@pytest.mark.parametrize("name", MODELS)
def test_models_do_not_import_one_another(name):
    assert not imports(ROOT / "recon" / f"{name}.py") & {f"recon.{other}" for other in MODELS}
