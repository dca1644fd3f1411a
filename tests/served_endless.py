"""`python app.py` with one more endpoint, /endless, which reconstructs one picture after another."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import gradio as gr

import app
from recon.settings import LCMSettings, Settings
from recon.ui.cache import FrameCache
from recon.ui.frames import frame_source, generator

serve = app.serve


def serve_endless(demo, studio, open_models, **options) -> None:
    frames = frame_source(studio, generator(studio), FrameCache())

    def endless() -> Iterator[str]:
        for seed in range(10**6):
            for frame in frames(0, Settings(lcm=LCMSettings(seed=seed))):
                yield f"seed {seed}, {frame.stage} {frame.step}"

    with demo:
        gr.api(endless, api_name="endless")
    serve(demo, studio, open_models, **options)


app.serve = serve_endless
app.main()
