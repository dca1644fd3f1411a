"""What makes files of other files, and whether it is done.

A stage is done if its outputs are there and were made of the present inputs, with the present settings, by the present code. These
three are its fingerprint, which is kept in a hidden folder beside the outputs, together with whatever is unfinished:

    .stages/NAME/record.json     {"inputs": {file: checksum}, "settings", "code", "finished", "report"}
    .stages/NAME/…               what a run that was killed goes on from; removed when the stage is finished

The code is found by reading it: see `code_of`.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from precompute.folder_lock import working_in
from precompute.team import ALONE, Team
from recon.files import BadFile, fingerprint, load_json, save_json

ROOT = Path(__file__).parents[1]
PACKAGES = ("recon", "precompute")
ANNOTATIONS = ("annotation", "returns")  # fields of syntax trees by which nothing is computed
BOOKKEEPING = ("precompute.stage", "precompute.folder_lock")  # they decide when something is made, not what


@dataclass(frozen=True)
class Stage:
    """Files, and the function that makes them.

    `run` is a function of a module, or a `partial` of one; it returns a report for JSON, or nothing. What it has not finished it
    may keep in `place_of` the stage. An output may be a folder, an input too: all files in it count.
    """

    name: str
    inputs: Mapping[Path, str]  # file or folder -> the command that makes it
    outputs: tuple[Path, ...]
    run: Callable[[], dict | None]
    settings: dict = field(default_factory=dict)  # for JSON: all that changes the outputs besides inputs and code
    shared: bool = False  # by the processes of a team; otherwise the first one runs it alone

    @property
    def work(self) -> Path:
        return place_of(self.outputs[0].parent, self.name)

    def parts(self) -> dict:
        """Inputs, settings and code. An input that is gone since it was read counts as what it was."""
        known = record(self.work).get("inputs", {})
        inputs = {p.name: content_of(p) if p.exists() else known.get(p.name) for p in self.inputs}
        if len(inputs) < len(self.inputs):
            raise ValueError(f"{self.name}: expected inputs of different names, got {sorted(map(str, self.inputs))}")
        return {"inputs": inputs, "settings": json.loads(json.dumps(self.settings)), "code": code_of(self.run)}


def content_of(path: Path) -> str:
    """Fingerprint of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        return fingerprint(path)
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return hashlib.sha256(json.dumps({name: fingerprint(path / name) for name in files}).encode()).hexdigest()


def place_of(folder: Path, name: str) -> Path:
    """Where the record and the unfinished files of a stage lie whose first output is in `folder`."""
    return folder / ".stages" / name.replace(" ", "_")


def record(work: Path) -> dict:
    """What is known of a stage; empty if nothing is."""
    path = work / "record.json"
    return load_json(path) if path.exists() else {}


def state(stage: Stage) -> str:
    """ "done"; "stale": made of other inputs, with other settings or by other code; "missing"; or "waits" for inputs."""
    found = record(stage.work)
    if all(path.exists() for path in stage.outputs) and found.get("finished"):
        return "done" if _same(found, stage.parts()) else "stale"
    return "missing" if all(path.exists() for path in stage.inputs) else "waits"


def _same(found: dict, parts: dict) -> bool:
    return all(found.get(name) == value for name, value in parts.items())


def make(stage: Stage, me: Team = ALONE) -> dict:
    """Runs the stage unless it is done; returns its report, and whether it was finished already.

    A run that was killed goes on; what was begun or made of other inputs, settings or code is removed first. One process, or one
    team, at a time. Raises BadFile where an input is missing, saying which command makes it, or where another process works.
    """
    if me.agreed(state(stage) == "done" if me.first else None):
        return _told(stage, me)
    with working_in(stage.outputs[0].parent) if me.first else nullcontext():
        return _make(stage, me)


def _told(stage: Stage, me: Team) -> dict:
    return me.agreed(record(stage.work)["report"] if me.first else None) | {"already finished": True}


def make_all(stages: Sequence[Stage], me: Team = ALONE) -> list[dict]:
    """Stages of one folder that do not depend on one another, each made by one process of the team; returns what `make` does."""
    there = me.agreed([state(stage) == "done" for stage in stages] if me.first else None)
    with working_in(stages[0].outputs[0].parent) if me.first and not all(there) else nullcontext():
        for stage in stages[me.rank :: me.size]:
            _make(stage, ALONE)
        me.wait()
    return [record(stage.work)["report"] | {"already finished": was} for stage, was in zip(stages, there)]


def _make(stage: Stage, me: Team) -> dict:
    if me.agreed(
        state(stage) == "done" if me.first else None
    ):  # by another process, while this one waited for the folder
        return _told(stage, me)
    for path, command in stage.inputs.items():
        if not path.exists():
            raise BadFile(f"{path} is missing: make it with `python -m precompute {command}`")
    parts = me.agreed(stage.parts() if me.first else None)
    if me.first:
        _begin(stage, parts)
    me.wait()
    report = (stage.run() if stage.shared or me.first else None) or {}
    me.wait()
    if me.first:
        _finish(stage, parts, report)
    return me.agreed(report) | {"already finished": False}


def _begin(stage: Stage, parts: dict) -> None:
    found = record(stage.work)
    if found.get("finished") or not _same(found, parts):
        for path in stage.outputs:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.rmtree(stage.work, ignore_errors=True)
        save_json(stage.work / "record.json", parts | {"finished": False})


def _finish(stage: Stage, parts: dict, report: dict) -> None:
    save_json(stage.work / "record.json", parts | {"finished": True, "report": report})
    for path in stage.work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "record.json":
            path.unlink()


def changed_inputs(work: Path, folder: Path) -> list[str]:
    """Names of files in `folder` that a finished stage read, and that are others now."""
    read = record(work).get("inputs", {})
    return [name for name, was in read.items() if (folder / name).exists() and content_of(folder / name) != was]


# --- code -------------------------------------------------------------------------------------------------------------

Definition = tuple[str, str]  # a module of this repository, and a name in it; EVERYTHING for all of it
EVERYTHING = "*"


def code_of(run: Callable, root: Path = ROOT) -> str:
    """Checksum of the code behind a function: of every definition of this repository that it uses, directly or not.

    Modules are read, not run. What annotations name counts as used, for objects come in as arguments. Comments, docstrings, layout
    and the annotations themselves do not count, nor what `BOOKKEEPING` modules hold.
    """
    while isinstance(run, partial):
        run = run.func
    if _path(run.__module__, root) is None:  # not of this repository
        return hashlib.sha256(inspect.getsource(run).encode()).hexdigest()
    return _code_of(run.__module__, run.__qualname__.split(".")[0], root)


@cache
def _code_of(module: str, name: str, root: Path) -> str:
    found, seen, todo = {}, set(), [(module, name)]
    while todo:
        here = todo.pop()
        if here in seen or here[0] in BOOKKEEPING:
            continue
        seen.add(here)
        for k, statement in enumerate(_tree(here[0], root).body):
            if _defines(statement, here[1]):
                found[here[0], k] = _canonical(statement)
                todo += _uses(here[0], statement, here[1], root)
    return hashlib.sha256("\n".join(f"{at[0]} {found[at]}" for at in sorted(found)).encode()).hexdigest()


def _path(module: str, root: Path) -> Path | None:
    """The file of a module of this repository; None for any other module."""
    file = root.joinpath(*module.split("."))
    if module.split(".")[0] not in PACKAGES:
        return None
    return next((path for path in (file.with_suffix(".py"), file / "__init__.py") if path.exists()), None)


@cache
def _tree(module: str, root: Path) -> ast.Module:
    return ast.parse(_path(module, root).read_text(encoding="utf-8"))


def _defines(statement: ast.stmt, name: str) -> bool:
    """Whether a statement at the top of a module gives `name` its meaning, or has an effect whatever is asked for."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return name in (EVERYTHING, statement.name)
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return any(name in (EVERYTHING, _bound(alias)) for alias in statement.names)
    if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
        return any(_defines(imports, name) for imports in statement.body)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return False
    names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return name == EVERYTHING or name in names or not names


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


def _uses(module: str, statement: ast.stmt, name: str, root: Path) -> Iterator[Definition]:
    """What a statement that defines `name` refers to in this repository."""
    at_top = not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            some = [alias for alias in node.names if not at_top or name in (EVERYTHING, _bound(alias))]
            yield from _imported(module, node, some, root)
        elif isinstance(node, ast.Name):
            yield module, node.id


def _imported(module: str, node: ast.stmt, aliases: list[ast.alias], root: Path) -> Iterator[Definition]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, EVERYTHING) for alias in aliases if _path(alias.name, root))
        return
    above = module.split(".")[: -node.level] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    for alias in aliases:
        if _path(f"{base}.{alias.name}", root):
            yield f"{base}.{alias.name}", EVERYTHING
        elif _path(base, root):
            yield base, alias.name


def _canonical(node) -> str:
    """A syntax tree as text without docstrings, annotations and empty fields, which not every version of Python has."""
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {k: v for k, v in ast.iter_fields(node) if v is not None and v != [] and k not in ANNOTATIONS}
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    return f"{type(node).__name__}({','.join(f'{name}={_canonical(value)}' for name, value in fields.items())})"
