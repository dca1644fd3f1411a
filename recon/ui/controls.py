"""The controls of the Explore tab: what is read from the brain, and how stage 2 runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from recon.settings import MAX_GUIDANCE, MAX_PROMPT, MAX_STEPS, MIN_STRENGTH, LCMSettings, Settings
from recon.share import LCM, WORDS
from recon.ui.guidance_controls import SAME, guidance_controls
from recon.ui.html.parts import REGRESSOR_NAMES, TARGET_NAMES

PROMPT_CHOICES = [
    ("Read from the brain", "decoded"),
    ("Nearest caption", "caption"),
    ("My text", "own"),
    ("No text", "none"),
    ("⚠ Oracle: knows the answer", "oracle"),
]
HELP = {
    "steps": "How often the second stage refines the picture.",
    "guidance": "How strongly the picture follows the prompt; above 1 each step costs twice as much.",
    "strength": "How much of the rough layout may change; 1 starts from nothing.",
    "seed": "Of the noise it starts from: the same seed and settings give the same picture.",
    "always": "Draws another seed for every picture.",
    "regressor": "What reads the voxels: ridge is linear, the MLP a small neural network.",
    "prompt": "Where the words come from that steer the picture. The oracle uses the true captions: it knows the answer.",
    "own": "Your own words, followed as you type.",
    "response": "What is decoded. All but the first are nulls: whatever still looks right does not come from this brain response.",
}
GUIDANCE = ("balance", "image_scale")  # numbers that the page chooses beside the LCM's
RESPONSE_CHOICES = [
    ("This image’s", "own"),
    ("⚠ Another image’s", "other"),
    ("⚠ Voxels shuffled", "shuffled"),
    ("⚠ None", "none"),
]
OWN_PROMPT = "a red boat on the sea at sunset"
CHANGED = """(...values) => {{
    const detail = Object.fromEntries({names}.map((name, k) => [name, values[k]]));
    document.dispatchEvent(new CustomEvent("settings", {{ detail }}));
}}"""  # to the picker, by name
RANDOM_SEED = "() => Math.floor(Math.random() * 1e6)"


def read_settings(values: Mapping, reading: Mapping) -> Settings:
    """What the controls hold, by name, and what the reading panel says -> settings. Raises ValueError."""
    gains = tuple((str(roi), gain) for roi, gain in reading.get("gains", {}).items())
    lcm = LCMSettings(**{name: values[name] for name in LCM})
    words = {name: values[name] for name in WORDS}
    of_reading = {name: reading.get(name) for name in ("repeats", "components")}
    return Settings(**words, **{name: values[name] for name in GUIDANCE}, lcm=lcm, **of_reading, gains=gains)


def control_values(settings: Settings) -> dict:
    """The reverse of `read_settings`: name of a control -> what it holds."""
    words = {name: getattr(settings, name) for name in WORDS} | {"own_prompt": settings.own_prompt or OWN_PROMPT}
    words |= {name: getattr(settings, name) for name in GUIDANCE}
    return words | {name: getattr(settings.lcm, name) for name in LCM}


def reading_of(settings: Settings) -> dict:
    """The reverse of `read_settings`: what the reading panel says."""
    return {"repeats": settings.repeats, "components": settings.components, "gains": dict(settings.gains)}


def prompt_choices(has_captions: bool) -> list[tuple[str, str]]:
    """Where stage 2's words may come from: without captions, not from those."""
    return [choice for choice in PROMPT_CHOICES if has_captions or choice[1] not in ("caption", "oracle")]


def regressor_help(shares: Mapping[str, float]) -> str:
    """What the regressors are, and, where it is known, how much of each MLP is a network: target -> share."""
    if not shares:
        return HELP["regressor"]
    told = ", ".join(f"{100 * share:.0f} % for {TARGET_NAMES[target]}" for target, share in shares.items())
    return f"{HELP['regressor']} It is an average with ridge; the network’s share: {told}."


def settings_controls(
    has_captions: bool = True, no_adapter: str = "", shares: Mapping[str, float] | None = None
) -> dict[str, Component]:
    """Stage 2's controls by name; every change of one is told to the picker."""
    with gr.Row(elem_classes="controls"):
        lcm, more = LCMSettings(), {"buttons": []}
        controls = {
            "steps": gr.Slider(1, MAX_STEPS, lcm.steps, step=1, label="Steps", info=HELP["steps"], **more),
            "guidance": gr.Slider(
                1, MAX_GUIDANCE, lcm.guidance, step=0.1, label="Guidance", info=HELP["guidance"], **more
            ),
            "strength": gr.Slider(
                MIN_STRENGTH, 1, lcm.strength, step=0.05, label="Strength", info=HELP["strength"], **more
            ),
            "seed": gr.Number(lcm.seed, label="Seed", precision=0, minimum=0, info=HELP["seed"], elem_classes="seed"),
        }
        random_seed = gr.Button("New seed", elem_classes="random-seed")
        always = gr.Checkbox(False, label="New seed each time", info=HELP["always"], elem_classes="always-random")
        choices = [(name, key) for key, name in REGRESSOR_NAMES.items()]
        controls |= {
            "regressor": gr.Radio(
                choices, value="mlp", label="Regressor", info=regressor_help(shares or {}), elem_classes="regressor"
            ),
            "prompt": gr.Radio(
                prompt_choices(has_captions),
                value="decoded",
                label="Prompt",
                info=HELP["prompt"],
                elem_classes="prompt",
            ),
            "own_prompt": gr.Textbox(
                OWN_PROMPT, label="My text", max_length=MAX_PROMPT, info=HELP["own"], elem_classes="own"
            ),
        }
        controls["response"] = gr.Radio(
            RESPONSE_CHOICES, value="own", label="Response", info=HELP["response"], elem_classes="response"
        )
    guidance, presets = guidance_controls(no_adapter)
    controls |= guidance
    tell_changes(controls, [random_seed.click, always.select], presets)
    return controls


def tell_changes(controls: dict[str, Any], draws: list[Callable], presets: gr.Radio) -> None:
    """Whatever a visitor changes is told to the picker, words as they are typed; each of the events `draws` draws a new seed
    first, and a preset sets the balance."""
    told = {
        "fn": None,
        "inputs": list(controls.values()),
        "js": CHANGED.format(names=json.dumps(list(controls))),
    }
    for name, control in controls.items():
        if name == "seed":
            control.submit(**told)
            control.blur(**told)
        else:
            control.input(**told)
    presets.input(None, presets, controls["balance"], js=SAME).then(**told)
    for draw in draws:
        draw(None, None, controls["seed"], js=RANDOM_SEED).then(**told)
