"""The Evaluate tab: scores over the whole test set."""

from __future__ import annotations

from html import escape

import gradio as gr

from recon.ui.parts import REGRESSOR_NAMES
from recon.ui.studio import Studio

ROWS = REGRESSOR_NAMES | {"ceiling": "Ceiling", "shuffled": "Shuffled responses", "truth": "True pictures"}
STAGES = {"vdvae": "Stage 1", "lcm": "Stage 2"}


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def share_table(title: str, kinds: dict[str, dict[str, float]]) -> str:
    """One row a kind, one column an attribute."""
    rows = []
    for name, shares in kinds.items():
        cells = "".join(f"<td>{share(value)}</td>" for value in shares.values())
        rows.append(f'<tr class="{name}"><th>{escape(ROWS[name])}</th>{cells}</tr>')
    attributes = "".join(f"<th>{attribute.capitalize()}</th>" for attribute in kinds["shuffled"])
    return f"<table><thead><tr><th>{title}</th>{attributes}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def score_table(evaluation: dict) -> str:
    """Scores over the whole test set: pictures of both stages, then what share of captions and pictures is right."""
    rows = []
    for stage, kinds in evaluation["rows"].items():
        for name, scores in kinds.items():
            latent = evaluation["latent_r2"].get(name) if stage == "vdvae" else None
            cells = [f"{scores['pixel_correlation']:.2f}"]
            cells += [share(scores[key]) for key in ("identification", "clip_identification")]
            cells += [f"{latent[k]:.3f}" for k in ("cv", "test")] if latent else ["–", "–"]
            cells = "".join(f"<td>{c}</td>" for c in cells).replace("-", "−")
            rows.append(f'<tr class="{name}"><th>{STAGES[stage]}: {escape(ROWS[name])}</th>{cells}</tr>')
    return (
        '<section class="panel scores"><table><thead><tr>'
        f"<th>All {evaluation['n_images']} test pictures</th><th>Pixel correlation</th>"
        "<th>Identification <small>by pixels, chance 50 %</small></th>"
        "<th>Identification <small>by CLIP, chance 50 %</small></th><th>Latent R² <small>held-out training</small></th>"
        f"<th>Latent R² <small>test</small></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        + share_table("Decoded caption is right about", evaluation["captions"])
        + share_table("Stage 2 shows the right, as a classifier sees it", evaluation["drawn"])
        + "</section>"
    )


def evaluate_tab(studio: Studio) -> None:
    """Lays the tab out, inside an open gr.Tab."""
    if studio.manifest["evaluation"]:
        gr.HTML(score_table(studio.manifest["evaluation"]), apply_default_css=False)
