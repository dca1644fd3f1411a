"""The controls of the Explore tab: what is read from the brain, and how stage 2 runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gradio as gr

from recon.settings import MAX_GUIDANCE, MAX_PROMPT, MAX_STEPS, MIN_STRENGTH, LCMSettings, Settings
from recon.ui.panel import REGRESSOR_NAMES

PROMPT_CHOICES = [
    ("Decoded", "decoded"),
    ("Caption", "caption"),
    ("Own", "own"),
    ("None", "none"),
    ("⚠ Oracle: knows the answer", "oracle"),
]
OWN_PROMPT = "a red boat on the sea at sunset"
CHANGED = "(...values) => { document.dispatchEvent(new CustomEvent('settings', {detail: values})); }"  # to the picker
RANDOM_SEED = "() => Math.floor(Math.random() * 1e6)"


def read_settings(values: Sequence, reading: Mapping) -> Settings:
    """The controls' values, in their order, and what the reading panel says -> settings. Raises ValueError."""
    regressor, steps, guidance, strength, seed, prompt, own = values
    gains = tuple((str(roi), gain) for roi, gain in reading.get("gains", {}).items())
    lcm = LCMSettings(steps, guidance, strength, seed)
    return Settings(regressor, prompt, own, lcm, reading.get("repeats"), reading.get("components"), gains)


def control_values(settings: Settings) -> list:
    """The reverse of `read_settings`: values of the controls."""
    lcm = settings.lcm
    own = settings.own_prompt or OWN_PROMPT
    return [settings.regressor, lcm.steps, lcm.guidance, lcm.strength, lcm.seed, settings.prompt, own]


def reading_of(settings: Settings) -> dict:
    """The reverse of `read_settings`: what the reading panel says."""
    return {"repeats": settings.repeats, "components": settings.components, "gains": dict(settings.gains)}


def settings_controls() -> list:
    """Stage 2's controls, in the order of read_settings; every change of one is told to the picker."""
    with gr.Row(elem_classes="controls"):
        lcm = LCMSettings()
        steps = gr.Slider(1, MAX_STEPS, lcm.steps, step=1, label="LCM steps", buttons=[])
        guidance = gr.Slider(1, MAX_GUIDANCE, lcm.guidance, step=0.1, label="Guidance", buttons=[])
        strength = gr.Slider(MIN_STRENGTH, 1, lcm.strength, step=0.05, label="Strength", buttons=[])
        seed = gr.Number(lcm.seed, label="Seed", precision=0, minimum=0, elem_classes="seed")
        random_seed = gr.Button("Random seed", elem_classes="random-seed")
        choices = [(name, key) for key, name in REGRESSOR_NAMES.items()]
        regressor = gr.Radio(choices, value="mlp", label="Stage 1")
        prompt = gr.Radio(PROMPT_CHOICES, value="decoded", label="Prompt", elem_classes="prompt")
        own = gr.Textbox(OWN_PROMPT, label="Own prompt", max_length=MAX_PROMPT, elem_classes="own")
    controls = [regressor, steps, guidance, strength, seed, prompt, own]
    told = {"fn": None, "inputs": controls, "js": CHANGED}
    for control in (regressor, steps, guidance, strength, prompt):
        control.input(**told)
    for control in (seed, own):
        control.submit(**told)
        control.blur(**told)
    random_seed.click(None, None, seed, js=RANDOM_SEED).then(**told)
    return controls
