"""`python app.py` with one more endpoint, /endless, which reconstructs one picture after another."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import gradio as gr

import app
from recon.settings import LCMSettings, Settings
from recon.ui.server.frames import frames_of

serve = app.serve


def serve_endless(demo, library, **options) -> None:
    frames = frames_of(library.first)

    def endless() -> Iterator[str]:
        for seed in range(10**6):
            for frame in frames(0, Settings(lcm=LCMSettings(seed=seed))):
                yield f"seed {seed}, {frame.stage} {frame.step}, {len(frame.images)} pictures"

    with demo:
        gr.api(endless, api_name="endless")
    serve(demo, library, **options)


app.serve = serve_endless
app.main()
