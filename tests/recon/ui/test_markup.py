"""The page's HTML is made in one way: constant templates, into which values go escaped."""

import ast
import re
from pathlib import Path

import gradio as gr
import pytest
from markupsafe import Markup

from recon.ui.html.markup import html, joined
from recon.ui.html_block import html_block

ROOT = Path(__file__).parents[3]
TAG = re.compile(r"</?[a-zA-Z][\w-]*[\s/>]")
HOSTILE = "<img src=x onerror=alert(1)>"


def is_constant(node: ast.AST) -> bool:
    """Whether a template is written in the source, or is a file of the page."""
    if isinstance(node, ast.IfExp):
        return is_constant(node.body) and is_constant(node.orelse)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "page_text" and is_constant(node.args[0])
    return isinstance(node, ast.Constant)


def called(node: ast.AST) -> str:
    """The name of what is called: "html", "gr.HTML" …; "" if nothing is."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def raw_html(text: str) -> list[str]:
    """What in a module makes HTML otherwise: tags outside templates, templates that are not constant, HTML taken as it is."""
    tree = ast.parse(text)
    docstrings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    templates = [part for n in ast.walk(tree) if called(n) == "html" for part in ast.walk(n.args[0])]
    found = []
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and TAG.search(node.value) and node not in docstrings + templates:
            found.append(node.value)
        if called(node) == "html" and not is_constant(node.args[0]):
            found.append(ast.unparse(node))
        if called(node) == "joined" and not all(map(is_constant, node.args[1:])):
            found.append(ast.unparse(node))
        if called(node) == "script" and "read_text" not in ast.unparse(node.args[0]):
            found.append(ast.unparse(node))
        if called(node) == "Markup" or called(node) == "gr.HTML" and "html_template" not in ast.unparse(node):
            found.append(ast.unparse(node))
    return found


def modules() -> dict[str, str]:
    files = [ROOT / "app.py", *(ROOT / "recon").rglob("*.py")]
    return {f.name: f.read_text(encoding="utf-8") for f in files if f.name not in ("markup.py", "html_block.py")}


def test_nothing_in_the_page_makes_html_but_templates():
    assert {name: found for name, text in modules().items() if (found := raw_html(text))} == {}


@pytest.mark.parametrize(
    "line",
    [
        'f"<b>{name}</b>"',
        '"<b>" + name + "</b>"',
        '"<b>%s</b>" % name',
        '"<b>{}</b>".format(name)',
        'html(f"{name}")',
        "html(name)",
        'html("<b>" + name)',
        "joined(parts, name)",
        "Markup(name)",
        "script(name)",
        "gr.HTML(name)",
        'f"x{name:>3}<br>"',
        'html("{}", f"<i>{name}</i>")',
    ],
)
def test_a_line_that_makes_html_otherwise_is_seen(line):
    assert raw_html(line + "\n" + 'x = html("<b>{}</b>", name)')


def test_a_value_is_escaped_once_wherever_it_goes_in():
    inner = html('<i title="{}">{x}</i>', f'"{HOSTILE}', x=HOSTILE)
    assert "<img" not in inner and 'title="&#34;&lt;img' in inner
    assert html("<b>{}</b>", inner) == f"<b>{inner}</b>"
    assert joined([inner, HOSTILE], ", ") == f"{inner}, &lt;img src=x onerror=alert(1)&gt;"
    assert html("{:.1f}", 1.25) == "1.2" and isinstance(joined([]), Markup)


def test_a_block_of_the_page_shows_as_text_what_was_not_made_as_html():
    with gr.Blocks():
        block = html_block(HOSTILE)
        made = html_block(html("<b>{}</b>", "&"))
    assert block.value == "&lt;img src=x onerror=alert(1)&gt;"
    assert made.value == "<b>&amp;</b>" and type(made.value) is str


def test_the_pages_scripts_put_no_text_in_as_html():
    sinks = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")
    scripts = list((ROOT / "assets" / "page").rglob("*.js"))
    assert len(scripts) > 8
    assert [path.name for path in scripts if sinks.search(path.read_text(encoding="utf-8"))] == []
