"""The Your data tab: responses that a visitor brings, decoded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import gradio as gr
from markupsafe import Markup

from recon.settings import LCMSettings, Settings
from recon.ui.decode import (
    NEWEST_LAST,
    Decoding,
    decoded_cards,
    decoder_controls,
)
from recon.ui.html.markup import NOTHING, html, joined
from recon.ui.html.parts import QUIET, RESPONSE_BUTTON
from recon.ui.html_block import html_block
from recon.ui.server.received import UPLOADING, Brought, received
from recon.ui.server.studio import Studio
from recon.ui.told import in_one_sentence

SCALE = "z-scored as the regressors were fitted; raw ones are z-scored over the file’s own rows, 10 at least."


def lead(n_voxels: int) -> Markup:
    """What the tab is for, what becomes of a file, and one to try."""
    return html(
        '<p class="lead">Decode responses of your own, of <b>this subject’s {n} voxels</b> in its order: a NumPy <code>.npy</code> '
        "or an HDF5 file of shape ({n},) or (n, {n}), real numbers, at most 64 MB. The file is read, never executed, and deleted; "
        "its numbers are kept for an hour at most, or until you send others.</p>"
        '<p class="sample">None at hand? Take the response to the picture chosen on Explore: {button}</p>',
        n=n_voxels,
        button=RESPONSE_BUTTON,
    )


def read(upload: str | None, brought: Brought, n_voxels: int) -> Iterator[tuple]:
    """(what was brought, what the page thinks of it, cards): at first nothing, nor of the file before it; the file is deleted."""
    from recon.uploads import keep_nameless, read_responses, what_it_looks_like

    brought.content, notes = None, []
    yield brought, NOTHING, NOTHING
    with received(upload) as path:
        brought.content = keep_nameless(read_responses(path, n_voxels, notes.append))
    notes.append(what_it_looks_like(brought.content))
    yield brought, joined(html('<p class="said" role="status">{}</p>', note) for note in notes), gr.skip()


def decode_own(studio: Studio, brought: Brought, scale: str, row: float, regressor: str, seed: float) -> Iterator[str]:
    """Cards of one response of those that were brought, until others are. Raises gr.Error."""
    from recon.uploads import to_scale

    if (rows := brought.content) is None:
        raise in_one_sentence("Choose a file first: .npy, .h5 or .hdf5.")
    brought.decoded = scale, row, regressor, seed
    try:
        responses = to_scale(rows, scale)
        if not 0 <= int(row) < len(responses):
            raise ValueError(f"row: expected 0 to {len(responses) - 1}, as the file has {len(responses)}, got {row}")
        settings = Settings(regressor, lcm=LCMSettings(seed=int(seed)))
        about = {"response": "uploaded", "row": int(row), "rows": len(responses), "scale": scale}
        cards = decoded_cards(studio, responses[int(row)], Decoding(settings, {}, "own_data", about))
        yield from brought.while_it_stays(cards)
    except (ValueError, TypeError) as error:
        raise in_one_sentence(error) from error


def own_data_tab(studio: Studio) -> None:
    """Lays the tab out and wires it, inside an open gr.Tab."""
    n_voxels = studio.subject.geometry.n_voxels

    def read_own(upload: str | None, brought: Brought) -> Iterator[tuple]:
        yield from read(upload, brought, n_voxels)

    def forget(brought: Brought) -> tuple:
        brought.content = None
        return NOTHING, NOTHING

    def follow(brought: Brought, *choices) -> Iterator[str]:
        """Decodes again if a choice is another one; nothing before there is a file."""
        if brought.content is not None and brought.decoded != choices:
            yield from decode_own(studio, brought, *choices)

    html_block(lead(n_voxels))
    with gr.Row(elem_classes="tab-controls"):
        with gr.Column(min_width=220):
            upload = gr.File(label="Responses", file_types=[".npy", ".h5", ".hdf5"], height=140)
            said = html_block()
        with gr.Column(min_width=220):
            scale = gr.Radio(["z-scored", "raw"], value="z-scored", label="Scale of the numbers", info=SCALE)
            row = gr.Number(0, label="Row", precision=0, minimum=0, info="Which response of the file, from 0.")
        with gr.Column(min_width=220):
            regressor, seed = decoder_controls("mlp")
    start = gr.Button("Decode", variant="primary", elem_classes="start-own")
    view, brought = html_block(), gr.State(Brought(), time_to_live=3600)
    how = {
        "fn": partial(decode_own, studio),
        "inputs": [brought, scale, row, regressor, seed],
        "outputs": view,
        **NEWEST_LAST,
    }
    upload.upload(read_own, [upload, brought], [brought, said, view], **UPLOADING).success(**how)
    upload.clear(forget, brought, [said, view], queue=False, **QUIET)
    start.click(**how)
    for trigger in (row.submit, row.blur, scale.input, regressor.input, seed.submit, seed.blur):
        trigger(**(how | {"fn": follow}))
