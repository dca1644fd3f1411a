"""Finished reconstructions, kept for whoever asks for the same again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recon.reconstruct import Frame

MAX_BYTES = 64 << 20  # of pictures and keys: 10 reconstructions at 512 pixels in 8 steps, 160 of the demo's


class FrameCache:
    """Frames by key, least recently used dropped first; at most `max_bytes` of pictures and keys. Threads may share one."""

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Frame, ...]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> tuple[Frame, ...] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, frames: Sequence[Frame]) -> None:
        """Keeps a finished reconstruction, unless it alone is over the bound."""
        size = _n_bytes(key, frames)
        if size > self.max_bytes:
            return
        with self._lock:
            if key in self._kept:
                self.n_bytes -= _n_bytes(key, self._kept.pop(key))
            self.n_bytes += size
            self._kept[key] = tuple(frames)
            while self.n_bytes > self.max_bytes:
                self.n_bytes -= _n_bytes(*self._kept.popitem(last=False))


def _n_bytes(key: Hashable, frames: Sequence[Frame]) -> int:
    """A key's by what it is written as."""
    return len(repr(key)) + sum(image.nbytes for frame in frames for image in frame.images.values())
