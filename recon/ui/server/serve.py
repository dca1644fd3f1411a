"""The server around the page: where models run, health, headers, limits, how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from threading import Thread
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from starlette.middleware import Middleware
from starlette.routing import Route

from recon.environment import check_address, is_zero_gpu, port, root_path
from recon.ui.server.gate import Gate
from recon.ui.server.headers import SecurityHeaders
from recon.ui.server.health import health
from recon.ui.server.page_head import PREVIEW_PATH, PageHead, link_preview
from recon.ui.server.startup import release_folder

if TYPE_CHECKING:
    from recon.bundle.bundle import Bundle
    from recon.settings import Settings
    from recon.ui.server.library import Library

ZERO_GPU = is_zero_gpu()
if ZERO_GPU:
    import spaces  # before the page launches and before anything touches CUDA: it stands in for parts of both

MAX_SESSIONS = (
    500  # whose components' values gradio keeps, a quarter of a megabyte each; an older visitor's page begins anew
)
MAX_UPLOAD = "64mb"  # a thousand responses of a large subject; gradio's own limit is none


def gpu_seconds(response: np.ndarray, settings: Settings, *_) -> int:
    """For how long ZeroGPU lends a GPU to one reconstruction at most: a process's start, stage 1, then UNet evaluations."""
    evaluations = settings.lcm.steps * (2 if settings.lcm.guidance > 1 else 1)
    return 15 + evaluations


def on_gpu(generate: Callable[..., Iterator]) -> Callable[..., Iterator]:
    """The generator function itself, or, on ZeroGPU, one that runs in a process which is lent a GPU.

    Its arguments and what it yields are pickled there; closing it stops the process's work at its next frame.
    """
    return spaces.GPU(generate, duration=gpu_seconds) if ZERO_GPU else generate


def describe_device(bundle: Bundle) -> str:
    """Where an open bundle's models run and in which precision, as the page says it: "CPU, float32, 2 threads"."""
    import torch

    where = bundle.vdvae or (bundle.diffusion and bundle.diffusion.pipe.unet)
    if where is None:
        return "no decoder"
    weight = next(where.parameters())
    dtype = str(weight.dtype).removeprefix("torch.")
    if weight.device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {dtype}, {threads} thread{'s' if threads > 1 else ''}"
    name = "ZeroGPU" if ZERO_GPU else torch.cuda.get_device_name(weight.device)
    return f"{name}, {dtype}"


def end_on_signals() -> None:
    """SIGTERM and Ctrl-C end the process at once, as the first process of a container too, which by default ignores them.

    Nothing can be left half written, since a reconstruction writes no file; what visitors sent is deleted. Python's own way out
    would wait for readers, or pull the interpreter from under a thread that is inside torch, which aborts.
    """

    def end(*_) -> None:
        release_folder()
        os._exit(0)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, end)


def serve(demo: gr.Blocks, library: Library, **options) -> None:
    """Launches the page and opens the first subject's models behind its first paint, on ZeroGPU before it, since there they
    must be placed by the thread that launches; returns when the server ends. Raises BadFile if its address cannot be used."""
    end_on_signals()
    check_address()
    if ZERO_GPU:
        library.open_first()
    demo.launch(
        server_port=port(),
        root_path=root_path() or None,
        max_file_size=MAX_UPLOAD,
        state_session_capacity=MAX_SESSIONS,
        enable_monitoring=False,
        app_kwargs={
            "routes": [Route("/healthz", health(library.first, describe_device)), Route(PREVIEW_PATH, link_preview)],
            "middleware": [
                *(Middleware(SecurityHeaders), Middleware(Gate)),
                Middleware(PageHead, root=root_path(), title=str(getattr(demo, "title", ""))),
            ],
        },
        prevent_thread_lock=True,
        **options,
    )
    if not ZERO_GPU:
        Thread(target=library.open_first, daemon=True).start()
    demo.block_thread()
