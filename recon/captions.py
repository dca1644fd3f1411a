"""Captions of training pictures, found by where CLIP puts their pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from recon.files import BadFile, whole_file

FORMAT = "recon-captions-1"


@dataclass(frozen=True)
class CaptionIndex:
    """Captions of training pictures, found by the place of their picture in CLIP's embedding space."""

    captions: list[str]  # one of each picture
    embeddings: np.ndarray  # (n, d) float32, of the pictures

    def nearest(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decoded image embeddings (n, d) -> rows of the most similar training pictures, and the cosines, (n,) both.

        Cosines are taken about the mean training embedding: what all pictures share says nothing.
        """
        centre = self.embeddings.mean(0)
        ours, theirs = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in (embeddings - centre, self.embeddings - centre)
        )
        similarity = ours @ theirs.T
        rows = similarity.argmax(1)
        return rows, similarity[np.arange(len(rows)), rows]

    def save(self, path: Path) -> None:
        """HDF5; embeddings in float16."""
        with whole_file(path) as part, h5py.File(part, "w") as f:
            f.attrs["format"] = FORMAT
            f.create_dataset("embeddings", data=self.embeddings.astype(np.float16))
            text = np.frombuffer(json.dumps(self.captions).encode(), np.uint8)
            f.create_dataset("captions", data=text, compression="gzip")

    @classmethod
    def load(cls, path: Path) -> CaptionIndex:
        """Raises BadFile if the file is missing, damaged or holds something else."""
        try:
            with h5py.File(path, "r") as f:
                if f.attrs.get("format") != FORMAT:
                    raise BadFile(f"{path}: expected format {FORMAT!r}, got {f.attrs.get('format')!r}")
                captions = json.loads(f["captions"][()].tobytes())
                embeddings = f["embeddings"][()].astype(np.float32)
        except BadFile:
            raise
        except (OSError, KeyError, ValueError) as error:
            raise BadFile(f"{path} is not a readable caption index (missing or damaged?): {error}") from error
        if len(captions) != len(embeddings):
            raise BadFile(f"{path}: {len(captions)} captions, but {len(embeddings)} embeddings")
        return cls(captions, embeddings)
