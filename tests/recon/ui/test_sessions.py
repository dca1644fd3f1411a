"""What gradio remembers of visitors has a bound."""

from types import SimpleNamespace

import gradio as gr
from gradio.state_holder import StateHolder

from recon.ui.server import serve
from recon.ui.server.studio import open_studio


def test_the_page_is_launched_with_a_bound_on_sessions_and_gradio_drops_the_oldest(tiny_bundle, monkeypatch):
    launched = {}
    demo = SimpleNamespace(launch=lambda **options: launched.update(options), block_thread=lambda: None)
    monkeypatch.setattr(serve, "end_on_signals", lambda: None)
    serve.serve(demo, SimpleNamespace(first=open_studio(tiny_bundle)[0], open_first=lambda: None))
    with gr.Blocks() as blocks:
        gr.State(0)
    blocks.state_session_capacity = launched["state_session_capacity"]
    sessions = StateHolder()
    sessions.set_blocks(blocks)
    for k in range(serve.MAX_SESSIONS + 100):
        sessions[str(k)]
    assert len(sessions.session_data) == len(sessions.time_last_used) == serve.MAX_SESSIONS == 500
    assert "99" not in sessions and "100" in sessions
