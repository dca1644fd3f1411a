"""The About tab: the method as a figure, the data, what to trust, whom to cite."""

from __future__ import annotations

import gradio as gr

from recon.ui.studio import Studio

BOXES = (  # x, y, words, kind
    (8, 92, ("fMRI", "voxels"), "data"),
    (150, 30, ("Ridge / MLP", "→ VDVAE latents"), "fitted"),
    (150, 154, ("Ridge / MLP", "→ prompt embedding"), "fitted"),
    (330, 30, ("VDVAE", "64 × 64 layout"), "model"),
    (510, 92, ("SD + LCM-LoRA", "1–8 steps"), "model"),
    (690, 92, ("Picture", "reconstructed"), "data"),
)
ARROWS = (
    (118, 108, 150, 62),
    (118, 124, 150, 178),
    (290, 56, 330, 56),
    (470, 62, 510, 108),
    (290, 180, 510, 128),
    (650, 118, 690, 118),
)
CITED = (
    "Ozcelik, VanRullen. Natural scene reconstruction from fMRI signals using generative latent diffusion. Sci Rep 13:15666 (2023)",
    "Child. Very deep VAEs generalize autoregressive models. arXiv:2011.10650 (2021)",
    "Luo et al. Latent consistency models; LCM-LoRA. arXiv:2310.04378, 2311.05556 (2023)",
    "Allen et al. A massive 7T fMRI dataset to bridge cognitive neuroscience and AI. Nat Neurosci 25 (2022)",
    "Shirakawa et al. Spurious reconstruction from brain activity. arXiv:2405.10078 (2024)",
    "Mayo et al. BrainBits: how much of the brain are generative reconstruction methods using? NeurIPS (2024)",
)


def figure() -> str:
    """The method, as SVG in the page's colours."""
    arrows = "".join(f'<path d="M{a} {b}L{c} {d}" marker-end="url(#head)"/>' for a, b, c, d in ARROWS)
    boxes = "".join(
        f'<g class="{kind}"><rect x="{x}" y="{y}" width="{110 if kind == "data" else 140}" height="52" rx="9"/>'
        f'<text x="{x + (55 if kind == "data" else 70)}" y="{y + 22}">{words[0]}</text>'
        f'<text class="second" x="{x + (55 if kind == "data" else 70)}" y="{y + 39}">{words[1]}</text></g>'
        for x, y, words, kind in BOXES
    )
    return (
        '<svg class="method" viewBox="0 0 810 236" role="img" aria-label="From voxels by two regressors to latents and a prompt, '
        'from these by two decoders to a picture"><defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs><g class="arrows">{arrows}</g>{boxes}</svg>'
    )


def data_words(manifest: dict) -> str:
    if manifest["simulated"]:
        return (
            "This page shows a <b>simulated subject</b>: its pictures, its visual cortex and its small decoders were made by this "
            "project’s own scripts, because the Natural Scenes Dataset may not be passed on. A simulated brain is kinder than a "
            "real one: its numbers show that the pipeline works, not how well it would do on a person."
        )
    return (
        "This page shows a subject of the Natural Scenes Dataset, whose terms allow research use and forbid passing on any of it. "
        "Keep this page private to those who have access to the data."
    )


def about_html(manifest: dict) -> str:
    cited = "".join(f"<li>{entry}</li>" for entry in CITED)
    return (
        f'<section class="panel about"><h2>How it works</h2>{figure()}<p>Two regressors, fitted to training pictures alone, read the '
        "voxels into the latents of a very deep VAE and into a prompt embedding. The VAE turns its latents into a blurred layout; a "
        "latent diffusion model redraws that layout in a few steps, guided by the prompt.</p>"
        f"<h2>What you see</h2><p>{data_words(manifest)}</p>"
        "<h2>What to trust</h2><ul><li>The prompt comes from the brain, unless the page says <b>oracle</b>: that source knows the "
        "answer.</li><li>Stage 1 alone shows what the voxels say of the layout; stage 2 adds what pictures usually look like, which may "
        "be right or invented.</li><li>The <b>ceiling</b> is the decoder given the picture’s own latents: what a perfect regressor would "
        "reach, not what the noise allows.</li><li>Chance is on the Evaluate tab beside every score, with nulls: shuffled responses, no "
        "response, no prompt, the nearest training picture.</li><li>R² of a voxel is of an <i>encoding</i> model on test pictures, "
        "negatives included, beside its noise ceiling.</li></ul>"
        f"<h2>Cite</h2><ul>{cited}</ul></section>"
    )


def about_tab(studio: Studio) -> None:
    """Lays the tab out, inside an open gr.Tab."""
    gr.HTML(about_html(studio.manifest), apply_default_css=False)
