"""Imports gradio in half the time."""

from __future__ import annotations

import inspect
from unittest.mock import patch


def import_gradio() -> None:
    """For later imports to find; without the stub files for editors that each of gradio's components writes of itself when it is
    imported, having read and parsed its own source."""
    find = inspect.getfile

    def hide_components(thing) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("no stub file wanted")  # what gradio makes of a class without a file
        return find(thing)

    with patch.object(inspect, "getfile", hide_components):
        import gradio  # noqa: F401
