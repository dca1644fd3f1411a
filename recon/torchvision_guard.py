"""A torchvision that does not fit torch is hidden from the libraries that would otherwise fail with it.

transformers and diffusers import torchvision where it is installed, though nothing here needs it of them. One that was built for
another torch fails at its import ("operator torchvision::nms does not exist"), and with it theirs.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec

NAME = "torchvision"


@cache
def why_unusable() -> str | None:
    """Why torchvision cannot be used: it is not installed, or does not fit; None where it can. One that does not fit is hidden."""
    if sys.modules.get(NAME) is None and (NAME in sys.modules or find_spec(NAME) is None):
        return "torchvision is not installed"
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # RuntimeError, ImportError, OSError, by what is missing
        for module in [name for name in sys.modules if name.split(".")[0] == NAME]:
            del sys.modules[module]
        sys.modules[NAME] = None  # for every later import it is not installed
        reason = " ".join(str(error).split())[:120]
        return f"torchvision does not fit the torch that is installed ({reason}): `{fitting()}`"
    return None


def fitting() -> str:
    """The command that installs the torchvision that was built for this torch."""
    build = version("torch").partition("+")[2]
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    return f"pip install --force-reinstall --no-deps torchvision{index}"
