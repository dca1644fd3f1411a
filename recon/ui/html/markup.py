"""The one way in which the page's HTML and SVG are made: constant templates, and values that are escaped as they go in."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

NOTHING = Markup("")


def html(template: str, *values: object, **named: object) -> Markup:
    """A constant template with `{}`, `{:.1f}` or `{name}` for values; what is not HTML made here is escaped."""
    return Markup(template).format(*values, **named)


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after another, a constant between them; what is not HTML made here is escaped."""
    return Markup(between).join(parts)


def script(text: str) -> Markup:
    """A script of the page's own files, which goes in as it is."""
    return Markup("<script>") + Markup(text) + Markup("</script>")
