"""The Your data tab: responses that a visitor brings, decoded."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
import numpy as np
from markupsafe import Markup

from recon.settings import LCMSettings, Settings
from recon.ui.decode import (
    NEWEST_LAST,
    Decoding,
    decoded_cards,
    decoder_controls,
)
from recon.ui.html.markup import html
from recon.ui.html_block import html_block
from recon.ui.server.received import UPLOADING, received
from recon.ui.server.studio import Studio
from recon.ui.told import in_one_sentence

SCALE = "z-scored as the regressors were fitted; raw ones are z-scored over the file’s own rows, 10 at least."


def lead(n_voxels: int) -> Markup:
    """What the tab is for, and what becomes of a file."""
    return html(
        '<p class="lead">Decode responses of your own, of <b>this subject’s {n} voxels</b> in its order: a NumPy <code>.npy</code> '
        "or an HDF5 file of shape ({n},) or (n, {n}), real numbers, at most 64 MB. The file is read, never executed, and deleted; "
        "its numbers are kept for an hour at most, or until you send others.</p>",
        n=n_voxels,
    )


def own_data_tab(studio: Studio) -> None:
    """Lays the tab out and wires it, inside an open gr.Tab."""
    n_voxels = studio.subject.geometry.n_voxels

    def read(upload: str | None) -> np.ndarray:
        """(n, n_voxels) that a visitor sent; the file is deleted."""
        from recon.uploads import keep_nameless, read_responses

        with received(upload) as path:
            return keep_nameless(read_responses(path, n_voxels, gr.Info))

    def run(rows: np.ndarray | None, scale: str, row: float, regressor: str, seed: float) -> Iterator[str]:
        from recon.uploads import to_scale

        if rows is None:
            raise in_one_sentence("Choose a file first: .npy, .h5 or .hdf5.")
        try:
            responses = to_scale(rows, scale)
            if not 0 <= int(row) < len(responses):
                raise ValueError(
                    f"row: expected 0 to {len(responses) - 1}, as the file has {len(responses)}, got {row}"
                )
            settings = Settings(regressor, lcm=LCMSettings(seed=int(seed)))
            about = {"response": "uploaded", "row": int(row), "rows": len(responses), "scale": scale}
            yield from decoded_cards(studio, responses[int(row)], Decoding(settings, {}, "own_data", about))
        except (ValueError, TypeError) as error:
            raise in_one_sentence(error) from error

    html_block(lead(n_voxels))
    with gr.Row(elem_classes="tab-controls"):
        upload = gr.File(label="Responses", file_types=[".npy", ".h5", ".hdf5"], height=140)
        with gr.Column(min_width=220):
            scale = gr.Radio(["z-scored", "raw"], value="z-scored", label="Scale of the numbers", info=SCALE)
            row = gr.Number(0, label="Row", precision=0, minimum=0, info="Which response of the file, from 0.")
        with gr.Column(min_width=220):
            regressor, seed = decoder_controls("mlp")
    start = gr.Button("Decode", variant="primary", elem_classes="start-own")
    view, rows = html_block(), gr.State(None, time_to_live=3600)
    how = {"fn": run, "inputs": [rows, scale, row, regressor, seed], "outputs": view, **NEWEST_LAST}
    upload.upload(read, upload, rows, **UPLOADING).success(**how)
    start.click(**how)
    row.submit(**how)
