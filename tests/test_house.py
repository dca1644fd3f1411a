"""The rules of the house: `recon` is what a page runs, imports go one way, and gradio stays in one place.

Sources are read as syntax trees, whole, so that an import inside a function counts. Each rule is tried on the repository, and on
the repository with one line added that breaks it.
"""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (  # from the ground up: what stands in one imports only what lies below, or its own folder
    {"unreadable", "torchvision_guard"},
    {"environment"},
    {"files", "device"},
    {"settings", "recipes", "images", "limited"},
    {"metrics", "share", "h5_rows"},
    {"regressors", "decoders", "brain"},
    {"bundle"},
    {"responses", "uploads", "uploaded_images"},
    {"reconstruct"},
    {"compare"},
    {"ui"},
    {"app"},
)
MODELS = ("recon.regressors.low_rank", "recon.regressors.mlp", "recon.decoders.vdvae", "recon.decoders.diffusion")


def read_sources() -> dict[str, str]:
    """Module name -> its text, of the app, the library and the offline half; packages under their own names."""
    files = [ROOT / "app.py", *(ROOT / "recon").rglob("*.py"), *(ROOT / "precompute").rglob("*.py")]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return {name: file.read_text(encoding="utf-8") for name, file in zip(names, files)}


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(module: str, text: str, types: bool = True) -> set[str]:
    """Dotted names that a module imports anywhere: of `from a import b` both a and a.b. `types`: those for annotations too."""
    names, nodes = set(), [ast.parse(text)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif types or not is_for_types(node):
            nodes += ast.iter_child_nodes(node)
    return names


def graph(sources: dict[str, str], types: bool = True) -> dict[str, set[str]]:
    """Module -> the modules of this repository that it imports."""
    return {name: (imported(name, text, types) & sources.keys()) - {name} for name, text in sources.items()}


def room(module: str) -> str:
    """The folder, or the file, directly below recon; "app"; or "precompute"."""
    parts = module.split(".")
    return parts[1] if parts[0] == "recon" and len(parts) > 1 else parts[0]


def unreachable(sources: dict[str, str]) -> set[str]:
    """Modules of recon that no chain of imports from the app ends at; packages, which hold nothing, do not count."""
    edges, seen, todo = graph(sources, types=False), set(), ["app"]
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += edges[module]
    return {name for name, text in sources.items() if name.startswith("recon.") and text.strip()} - seen


def upward(sources: dict[str, str]) -> set[tuple[str, str]]:
    """Imports within the app and recon that do not go down, or that leave for `precompute`."""
    level = {name: k for k, layer in enumerate(LAYERS) for name in layer} | {"precompute": len(LAYERS), "recon": -1}
    edges = [(a, b) for a, targets in graph(sources).items() for b in targets if room(a) != "precompute"]
    return {(a, b) for a, b in edges if room(a) != room(b) and level[room(b)] >= level[room(a)]}


def outside_the_page(sources: dict[str, str]) -> set[str]:
    """Modules that import gradio and are neither the app nor in recon/ui."""
    users = {name for name, text in sources.items() if "gradio" in {n.split(".")[0] for n in imported(name, text)}}
    return {name for name in users if room(name) not in ("app", "ui")}


def acquainted(sources: dict[str, str]) -> set[tuple[str, str]]:
    """Pairs of models of which one imports the other."""
    return {(a, b) for a, targets in graph({m: sources[m] for m in MODELS}).items() for b in targets}


def circle(sources: dict[str, str]) -> list[str]:
    """Modules that import one another in a circle, if any do."""
    try:
        TopologicalSorter(graph(sources, types=False)).prepare()
    except CycleError as error:
        return error.args[1]
    return []


RULES = (unreachable, upward, outside_the_page, acquainted, circle)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_module_breaks_a_rule(rule):
    assert not rule(read_sources())


@pytest.mark.parametrize(
    "rule, module, line",
    [
        (acquainted, "recon.regressors.low_rank", "from recon.regressors import mlp"),
        (acquainted, "recon.regressors.low_rank", "from . import mlp"),
        (acquainted, "recon.decoders.diffusion", "import recon.decoders.vdvae"),
        (unreachable, "recon.brain.new", "x = 1"),
        (unreachable, "recon.new", "from recon import files"),
        (outside_the_page, "recon.brain.maps", "import gradio as gr"),
        (outside_the_page, "recon.bundle.hub", "from gradio.blocks import Block"),
        (upward, "recon.brain.maps", "from recon.bundle.subject import Subject"),
        (upward, "recon.brain.maps", "from ..bundle import subject"),
        (upward, "recon.decoders.vdvae", "def f():\n    import recon.regressors.mlp"),
        (upward, "recon.reconstruct", "from recon.ui.html import panel"),
        (upward, "recon.bundle.bundle", "import recon.reconstruct"),
        (upward, "recon.regressors.mlp", "from precompute.fitting import fit_mlp"),
        (upward, "app", "import precompute"),
        (upward, "recon.files", "import app"),
        (circle, "recon.bundle.subject", "import recon.bundle.bundle"),
    ],
)
def test_a_line_that_breaks_a_rule_is_seen(rule, module, line):
    sources = read_sources()
    assert rule(sources | {module: sources.get(module, "") + "\n" + line})


def test_an_import_for_annotations_alone_makes_nothing_reachable():
    line = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from recon.brain import new"
    sources = read_sources()
    sources |= {"recon.brain.new": "x = 1", "recon.brain.maps": sources["recon.brain.maps"] + "\n" + line}
    assert unreachable(sources) == {"recon.brain.new"}


def test_every_file_has_a_name_of_its_own():
    names = Counter(path.name for part in ("recon", "precompute", "tests") for path in (ROOT / part).rglob("*.py"))
    assert {name for name, n in names.items() if n > 1} == {"__init__.py"}


def test_tests_lie_where_what_they_test_lies():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert all((ROOT / folder).is_dir() for folder in folders if folder.parts and folder.parts[0] != "browser")


def too_long(tree: ast.AST) -> list[str]:
    """Names of functions of more than fifty lines."""
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [f.name for f in functions if f.end_lineno - f.lineno >= 50]


def with_too_many_parameters(tree: ast.AST) -> list[str]:
    """Names of functions that take more than six things; those of commands and of the endpoint are options, by name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = [
                a for a in node.args.posonlyargs + node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")
            ]
            options = [a for a in arguments if "Annotated" in ast.unparse(a.annotation or ast.Constant(""))]
            if len(arguments) > 6 and not options and node.name != "reconstruct":
                found.append(node.name)
    return found


@pytest.mark.parametrize("rule", [too_long, with_too_many_parameters], ids=lambda rule: rule.__name__)
def test_functions_are_short(rule):
    sources = read_sources()
    assert not {name: found for name, text in sources.items() if (found := rule(ast.parse(text)))}
    assert rule(ast.parse(f"def f({', '.join('abcdefg')}):\n" + "    pass\n" * 50)) == ["f"]
