"""A link that restores subject, image and all settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl, urlencode

from recon.settings import MAX_PROMPT, LCMSettings, Settings
from recon.subject import Subject

MAX_LENGTH = 10_000  # characters of a query
LCM = {f.name for f in fields(LCMSettings)}


@dataclass(frozen=True)
class Shared:
    """What a link holds."""

    subject: str = ""  # its name; empty: the one that the page opens with
    index: int = 0  # of the test image
    settings: Settings = Settings()


def to_query(state: Shared) -> str:
    """Everything but what is absent: defaults too, which may change. Without a question mark."""
    s = state.settings
    pairs = [("subject", state.subject)] if state.subject else []
    pairs += [("image", state.index), ("regressor", s.regressor), ("prompt", s.prompt)]
    pairs += [("words", s.own_prompt)] if s.own_prompt else []
    pairs += [(name, getattr(s.lcm, name)) for name in ("steps", "guidance", "strength", "seed")]
    pairs += [(n, getattr(s, n)) for n in ("components", "repeats") if getattr(s, n) is not None]
    pairs += [("gain", f"{gain!r} {name}") for name, gain in s.gains]
    return urlencode(pairs)


def from_query(query: str) -> tuple[Shared, str]:
    """What the link says, defaults where it says nothing or nothing possible; and one sentence on that, empty if all is well.

    Whether there is such a subject, image or ROI, `fit_to` finds out. Never raises.
    """
    try:
        if len(query) > MAX_LENGTH:
            raise ValueError
        pairs = parse_qsl(
            query.removeprefix("?"), keep_blank_values=True, strict_parsing=bool(query), max_num_fields=200
        )
    except ValueError:
        return Shared(), _sentence(["the whole of it"])
    state, bad, seen = Shared(), [], set()
    for key, value in sorted(pairs, key=lambda pair: pair[0] != "words"):  # own words before the wish for them
        if key.startswith("__"):  # the page's own, such as __theme
            continue
        try:
            if key in seen and key != "gain":
                raise ValueError
            state = READ[key](state, value)
        except (KeyError, ValueError):
            bad.append(f"{key}={value}")
        seen.add(key)
    return state, _sentence(bad)


def fit_to(state: Shared, subject: Subject) -> tuple[Shared, str]:
    """The state without an image and ROIs that the subject does not have; and one sentence on that."""
    bad = []
    if state.index >= len(subject.test.images):
        bad.append(f"image={state.index}")
        state = replace(state, index=0)
    known = tuple((name, gain) for name, gain in state.settings.gains if name in subject.geometry.rois)
    bad += [f"gain of {name}" for name, gain in state.settings.gains if (name, gain) not in known]
    return replace(state, settings=replace(state.settings, gains=known)), _sentence(bad)


def _sentence(bad: list[str]) -> str:
    shown = ", ".join(text[:40] for text in bad[:5]) + (", …" if len(bad) > 5 else "")
    return f"The link holds what is not possible here ({shown}): defaults stand in for it." if bad else ""


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?", text):
        raise ValueError(text)
    return float(text)


def _subject(state: Shared, value: str) -> Shared:
    if not re.fullmatch(r"[\w .-]{1,80}", value):
        raise ValueError(value)
    return replace(state, subject=value)


def _words(state: Shared, value: str) -> Shared:
    if len(value) > MAX_PROMPT:
        raise ValueError(value)
    return replace(state, settings=replace(state.settings, own_prompt=value))


def _gain(state: Shared, value: str) -> Shared:
    gain, _, name = value.partition(" ")
    gains = (*state.settings.gains, (name, _number(gain)))
    return replace(state, settings=replace(state.settings, gains=gains))


def _setting(name: str, read: Callable = str) -> Callable[[Shared, str], Shared]:
    """How a setting of stage 2, or another, gets its value."""

    def apply(state: Shared, value: str) -> Shared:
        s, change = state.settings, {name: read(value)}
        changed = replace(s, lcm=replace(s.lcm, **change)) if name in LCM else replace(s, **change)
        return replace(state, settings=changed)

    return apply


READ: dict[str, Callable[[Shared, str], Shared]] = {
    "subject": _subject,
    "image": lambda state, value: replace(state, index=_whole(value)),
    "words": _words,
    "gain": _gain,
    **{name: _setting(name) for name in ("regressor", "prompt")},
    **{name: _setting(name, _whole) for name in ("steps", "seed", "components", "repeats")},
    **{name: _setting(name, _number) for name in ("guidance", "strength")},
}
