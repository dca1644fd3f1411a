"""Terms that the page explains on a tap, and the stops of its tour, in words for everybody: `assets/page/words.json`."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = json.loads((Path(__file__).parents[2] / "assets" / "page" / "words.json").read_text(encoding="utf-8"))
TERMS: dict[str, dict[str, str]] = WORDS["TERMS"]  # name -> "title", "words"
